# caselock-archiver, and caselock-admin, which needs what an archiver may: distroless, with glibc and OpenSSL; no shell.
ARG BUILD=localhost/caselock/build
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot
FROM ${BUILD} AS build
FROM ${RUNTIME}
COPY --from=build /out/caselock-archiver /out/caselock-admin /usr/local/bin/
ENV CASELOCK__ADMIN__LISTEN=0.0.0.0:9464
EXPOSE 9464
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/caselock-archiver"]
