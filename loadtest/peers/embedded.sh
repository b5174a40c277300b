#!/usr/bin/env bash
# The embedded default, all in one process, beside cp + sync + b3sum of the same files, in rounds that alternate: 8 × 256 MiB from
# the first byte to the last receipt. What was stored is compared with what was sent. Prints a table and writes it into loadtest/README.md.
# Usage: loadtest/peers/embedded.sh [ROUNDS]     5 by default. Each round fills 6 GB of the disk, which are free again after it.
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"
rounds=${1:-5}
build
[[ -n ${CASELOCK_PROGRAMS:-} ]] || (cd -- "$repository" && cargo build --locked --release -p caselock-uploader)
b3sum=$(cache_dir)/tools/bin/b3sum
[[ -x $b3sum ]] || cargo install --locked --root "$(cache_dir)/tools" b3sum@1.8.2
folder=$(footage bulk --count 8 --size 256M)
scratch=$(mktemp -d -- "${TMPDIR:-/tmp}/caselock-load.XXXXXX")
down() {
  [[ -z ${standalone:-} ]] || kill "$standalone" 2>/dev/null || true
  wait
  rm -rf -- "$scratch"
}
trap down EXIT
"$repository/deploy/dev-ca.sh" "$scratch/ca" demo >/dev/null 2>&1
digests() { cut -d' ' -f1 | sort; }
sent=$("$b3sum" "$folder"/* | digests)
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# timed NAME COMMAND…: adds a line to $scratch/lines: name, seconds, processor seconds of the command and, of ours, of the process.
timed() {
  local name=$1 began ended own before=0 after=0
  shift
  level
  [[ $name != ours ]] || before=$(cpu "$standalone")
  TIMEFORMAT='%U %S'
  began=$EPOCHREALTIME
  own=$({ time "$@" >"$scratch/log" 2>&1; } 2>&1) || { tail -n 20 -- "$scratch/log" >&2; die "$name failed"; }
  ended=$EPOCHREALTIME
  [[ $name != ours ]] || after=$(cpu "$standalone")
  awk -v n="$name" -v b="$began" -v e="$ended" -v o="$own" -v u="$((after - before))" \
    'BEGIN { split(o, t, " "); printf "%s %.3f %.2f\n", n, e - b, t[1] + t[2] + u / 100 }' | tee -a "$scratch/lines" >&2
}

ours() {
  local port admin registry
  while port=$((12000 + RANDOM % 7000)) admin=$((port + 1)) registry=$((port + 2)); answers "$port" || answers "$admin" || answers "$registry"; do :; done
  rm -rf -- "$scratch/data" "$scratch/journal"
  "$programs/caselock-standalone" --set "standalone.data=$scratch/data" --set "gateway.listen=127.0.0.1:$port" \
    --set gateway.plaintext_bureau=demo --set "archiver.signing_key=$scratch/ca/receipt-key.pem" --set "admin.listen=127.0.0.1:$admin" \
    --set "registry.listen=127.0.0.1:$registry" </dev/null >"$scratch/standalone.log" 2>&1 &
  standalone=$!
  until [[ $(curl -s -m 5 "http://127.0.0.1:$admin/readyz") == ready ]]; do
    kill -0 "$standalone" 2>/dev/null || { tail -n 20 -- "$scratch/standalone.log" >&2; die "it did not start"; }
    sleep 0.1
  done
  timed ours "$programs/caselock" upload "$folder" --server "http://127.0.0.1:$port" --receipt-keys "$scratch/ca/receipt-key.pub.pem" \
    --journal "$scratch/journal" --parallel 8 --set source=information_platform --set matter=inspection \
    --set record_form=electronic_data --set unit=load --set officers=load --set "recorded_started_at=$now" --set "recorded_ended_at=$now"
  kill "$standalone"
  wait "$standalone" || true
  standalone=
  local stored
  stored=$(find "$scratch/data/store" -type f -size +200M -print0 | xargs -0 "$b3sum" | digests)
  [[ $stored == "$sent" ]] || die "what is stored is not what was sent"
  rm -rf -- "$scratch/data"
}

peer() { cp -r -- "$folder" "$scratch/copy" && sync && "$b3sum" "$scratch"/copy/*; }

for _ in $(seq "$rounds"); do
  ours
  timed peer peer
  rm -rf -- "$scratch/copy"
done
python3 "$loadtest/peers/embedded.py" "$rounds" "$scratch/lines" "$loadtest/README.md"
