#!/usr/bin/env bash
# Makes the base images that the Dockerfiles name, for where public registries of images are out of reach: Debian's from its packages,
# and from these one as distroless as Google's. As root; with podman.
#   localhost/caselock/debian     Debian 12, minimal; for the Rust toolchain and CAs that build.sh puts there
#   localhost/caselock/runtime    glibc, OpenSSL, certificates, time zones, the user nonroot (65532); no shell
# Usage: deploy/images/bases.sh
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/images/lib.sh
source "$here/lib.sh"

hold_lock "$(cache_dir)/images.lock"
if podman image exists localhost/caselock/debian && podman image exists localhost/caselock/runtime; then exit 0; fi
command -v debootstrap >/dev/null || debian_packages debootstrap
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

say "making localhost/caselock/debian"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
debootstrap --variant=minbase bookworm "$scratch/debian" "${mirror:-http://deb.debian.org/debian}" >"$scratch/log" || { tail "$scratch/log" >&2; exit 1; }
rm -rf -- "$scratch"/debian/var/cache/apt/archives/*.deb "$scratch"/debian/var/lib/apt/lists/*
tar -C "$scratch/debian" -c . | podman import -q -c 'CMD ["/bin/bash"]' -c "ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  -c 'ENV CARGO_HOME=/usr/local/cargo' -c 'ENV CARGO_HTTP_CAINFO=/usr/local/share/host-cas.crt' - localhost/caselock/debian >/dev/null

say "making localhost/caselock/runtime"
packages=(base-files netbase tzdata ca-certificates libc6 libgcc-s1 libssl3)
mkdir -- "$scratch/runtime"
cp /etc/resolv.conf "$scratch/debian/etc/"
chroot "$scratch/debian" sh -c 'apt-get update -q >/dev/null && cd /tmp && apt-get download -q "$@" >/dev/null' sh "${packages[@]}"
for package in "$scratch"/debian/tmp/*.deb; do dpkg -x "$package" "$scratch/runtime"; done
rm -rf -- "$scratch"/runtime/usr/share/{doc,man,lintian,bug} "$scratch"/runtime/{bin,sbin,usr/bin,usr/sbin}
cat "$scratch"/runtime/usr/share/ca-certificates/mozilla/*.crt >"$scratch/runtime/etc/ssl/certs/ca-certificates.crt"
printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin >"$scratch/runtime/etc/passwd"
printf '%s\n' root:x:0: nonroot:x:65532: >"$scratch/runtime/etc/group"
mkdir -p -m 1777 -- "$scratch/runtime/tmp"
install -d -o 65532 -g 65532 -- "$scratch/runtime/home/nonroot"
tar -C "$scratch/runtime" -c . | podman import -q -c 'USER 65532:65532' -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' - localhost/caselock/runtime >/dev/null
