#!/usr/bin/env bash
# Builds the images of all services with podman: localhost/caselock/{gateway,archiver,media,registry,admin}:TAG.
# With BASES=made it builds on base images that are made here (bases.sh), with this machine's Rust toolchain, crates and CAs, instead of pulling.
# Usage: [BASES=made] deploy/images/build.sh [TAG]     TAG is the version by default
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/images/lib.sh
source "$here/lib.sh"
tag=${1:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$here/../../Cargo.toml")}

own=() runtime=()
if [[ ${BASES:-} == made ]]; then
  "$here/bases.sh"
  "$here/../toolchain.sh"
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  rust=$(cd -- "$here" && realpath -- "$(rustc --print sysroot)")
  mkdir -p -- "${CARGO_HOME:-$HOME/.cargo}/registry"
  own=(--build-arg BASE=localhost/caselock/debian -v "$rust:/usr/local/rust:ro" -v /etc/ssl/certs/ca-certificates.crt:/usr/local/share/host-cas.crt:ro
    -v "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry")
  runtime=(--build-arg RUNTIME=localhost/caselock/runtime --build-arg DEBIAN=localhost/caselock/debian)
fi

# What it was built of; nothing, where there is no git to ask.
revision=$(git -C "$here" rev-parse HEAD 2>/dev/null) || revision=
labels=(--label "org.opencontainers.image.version=$tag" --label "org.opencontainers.image.revision=$revision"
  --label "org.opencontainers.image.licenses=$(sed -n 's/^license = "\(.*\)"$/\1/p' "$here/../../Cargo.toml")")

say "building the programs"
podman build -q "${limits[@]}" "${own[@]}" -t localhost/caselock/build -f "$here/build.Dockerfile" "$here/../.." >/dev/null
for service in gateway archiver media registry admin; do
  podman build -q "${limits[@]}" "${runtime[@]}" "${labels[@]}" --label "org.opencontainers.image.title=caselock-$service" --build-arg BUILD=localhost/caselock/build -t "localhost/caselock/$service:$tag" \
    -f "$here/$service.Dockerfile" "$here" >/dev/null
  podman image inspect --format '{{.Size}}' "localhost/caselock/$service:$tag" |
    awk -v name="localhost/caselock/$service:$tag" '{ printf "%s: %.0f MB\n", name, $1 / 1e6 }'
done
