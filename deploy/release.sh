#!/usr/bin/env bash
# Makes the archive that bureaus get: the command caselock for Linux, linked statically (musl), with its unit and its pages.
# Usage: deploy/release.sh [OUT]      OUT is target/release-archive by default
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
cd -- "$here/.."
out=$(realpath -m -- "${1:-target/release-archive}")
machine=$(uname -m)
target=$machine-unknown-linux-musl

"$here/toolchain.sh"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
command -v musl-gcc >/dev/null || debian_packages musl-tools
rustup target list --installed 2>/dev/null | grep -qx "$target" || { say "going to install Rust's library for $target"; rustup target add "$target"; }
# Where it is built is not in it.
export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/caselock"
cargo build --locked --release -p caselock-uploader --target "$target"
program=${CARGO_TARGET_DIR:-target}/$target/release/caselock
ldd "$program" 2>&1 | grep -Eq 'statically linked|not a dynamic executable' || die "$program is not linked statically"

version=$("$program" --version | awk '{ print $2 }')
name=caselock-$version-$machine-linux
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
mkdir -p -- "$scratch/$name" "$out"
install -m 755 -- "$program" "$scratch/$name/caselock"
install -m 644 -- LICENSE deploy/docking/{README.md,caselock-watch.service,caselock.env} services/docs/{bureau.md,errors.md} "$scratch/$name/"
# The same bytes from the same sources.
tar -C "$scratch" --sort=name --mode=u=rwX,go=rX --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -cf - "$name" | gzip -n9 >"$out/$name.tar.gz"
(cd -- "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256" && cat "$name.tar.gz.sha256")
