# caselock-admin, and the bureaus' command: what makes topics, checks a bucket, and tries an installation.
ARG BUILD=localhost/caselock/build
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot
FROM ${BUILD} AS build
FROM ${RUNTIME}
COPY --from=build /out/caselock-admin /out/caselock /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/caselock-admin"]
