# caselock-media and its worker, on Debian with the release's own FFmpeg libraries.
ARG BUILD=localhost/caselock/build
ARG DEBIAN=docker.io/library/debian:bookworm-slim
FROM ${BUILD} AS build
FROM ${DEBIAN}
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      ca-certificates libssl3 libavcodec59 libavformat59 libavfilter8 libavutil57 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 /scratch
COPY --from=build /out/caselock-media /out/caselock-media-worker /usr/local/bin/
ENV CASELOCK__ADMIN__LISTEN=0.0.0.0:9464 CASELOCK__MEDIA__SCRATCH=/scratch
EXPOSE 9464
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/caselock-media"]
