#!/usr/bin/env bash
# A flame graph of all that this machine does for a while from now on, by thread, to be run beside a scenario. Needs perf (Debian:
# linux-perf) and the rights to profile every process.
# Usage: loadtest/profile.sh OUT.svg [SECONDS] [TITLE]     5 seconds by default
set -Eeuo pipefail
# shellcheck source=deploy/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/lib.sh"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
[[ $# -ge 1 ]] || { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
out=$1 seconds=${2:-5} title=${3:-}
tools=$(cache_dir)/tools
[[ -x $tools/bin/inferno-flamegraph ]] || cargo install --locked --root "$tools" --no-default-features --features cli inferno@0.12.8
data=$(mktemp -- "${TMPDIR:-/tmp}/caselock-profile.XXXXXX")
trap 'rm -f -- "$data"' EXIT
perf record -q -a -g -F 199 -o "$data" -- sleep "$seconds"
# An idle processor is no work.
perf script -i "$data" 2>/dev/null | "$tools/bin/inferno-collapse-perf" | grep -v '^swapper' |
  "$tools/bin/inferno-flamegraph" --title "$title" --minwidth 0.3 --hash >"$out"
