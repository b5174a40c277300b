#!/usr/bin/env bash
# Installs what building Caselock needs, on Debian or Ubuntu: a C toolchain, FFmpeg's libraries and headers, and Rust by
# rustup. Says what it installs before it does; does nothing where all is there.
# Usage: deploy/toolchain.sh
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

packages=(build-essential pkg-config cmake clang libclang-dev libssl-dev zlib1g-dev curl ca-certificates openssl git
  libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev libavdevice-dev ffmpeg
  fonts-dejavu-core)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
((${#missing[@]} == 0)) || debian_packages "${missing[@]}"

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
# Debian's own cargo may be older than what this is written for; one that is as new will do.
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$here/../Cargo.toml")
there=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if ! command -v rustup >/dev/null && [[ -z $there || $(printf '%s\n' "$needed" "$there" | sort -V | head -n 1) != "$needed" ]]; then
  say "going to install Rust by rustup, into ${CARGO_HOME:-$HOME/.cargo}"
  curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh | sh -s -- -y -q --profile minimal --default-toolchain none
fi
# The version rust-toolchain.toml names; rustup fetches it where it is not there.
(cd -- "$here/.." && cargo --version >/dev/null)
