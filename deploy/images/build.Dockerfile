# The programs of all images, in /out: one build stage that the Dockerfiles of the services copy from. BASE has Debian 12 and Rust.
ARG BASE=docker.io/library/rust:1.95-bookworm
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      build-essential pkg-config cmake clang libclang-dev libssl-dev zlib1g-dev ca-certificates \
      libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev libavdevice-dev \
 && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked --root /usr/local cargo-auditable@0.7.7
WORKDIR /src
COPY . .
# What the dependencies were built to stays in a cache of its own: a change of the sources does not build them again. Each program names
# its dependencies in a section of its own (cargo auditable), which scanners read.
RUN --mount=type=cache,target=/src/target \
    cargo auditable build --locked --release -p caselock-gateway -p caselock-archiver -p caselock-media -p caselock-media-worker \
      -p caselock-registry -p caselock-admin -p caselock-uploader \
 && mkdir /out \
 && for program in caselock caselock-gateway caselock-archiver caselock-media caselock-media-worker caselock-registry caselock-admin; do \
      cp "target/release/$program" /out/ || exit 1; \
    done
