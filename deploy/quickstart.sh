#!/usr/bin/env bash
# Shows Caselock at work on this machine: installs what is missing, builds, starts everything in one process on the
# embedded default, uploads a folder, waits for the receipts, and prints what lies where.
# Usage: deploy/quickstart.sh [FOLDER]      upload FOLDER (without one, a small set of footage is made)
#        deploy/quickstart.sh stop          stop the process; everything stays
#        deploy/quickstart.sh show          look again
#        deploy/quickstart.sh delete        stop it and delete the demo: its footage, receipts and certificates
# Programs that were built already are used where CASELOCK_PROGRAMS names their folder.
# Everything it makes lies in one folder: $CASELOCK_DEMO, or caselock-demo in the state folder of this user.
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
repository=$(cd -- "$here/.." && pwd)
demo=$(realpath -m -- "${CASELOCK_DEMO:-${XDG_STATE_HOME:-$HOME/.local/state}/caselock-demo}")
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
programs=${CASELOCK_PROGRAMS:-${CARGO_TARGET_DIR:-$repository/target}/release}

running() { [[ -s $demo/pid ]] && [[ $(readlink "/proc/$(<"$demo/pid")/exe" 2>/dev/null) == */caselock-standalone* ]]; }
stop() {
  running || { say "not running"; return; }
  kill "$(<"$demo/pid")"
  for _ in $(seq 300); do running || break; sleep 0.1; done
  ! running || die "it did not stop within 30 s: see $demo/server.log"
  rm -f -- "$demo/pid"
  say "stopped"
}
show() {
  [[ -x $programs/caselock-standalone ]] || die "nothing is built in $programs: run deploy/quickstart.sh"
  [[ -d $demo/data/store/v1 ]] || die "there is no demo in $demo: run deploy/quickstart.sh"
  "$programs/caselock-standalone" show --data "$demo/data" "$@"
}

case ${1:-} in
  stop) stop; exit ;;
  show) show; exit ;;
  delete)
    [[ -e $demo ]] || die "there is no demo in $demo"
    stop
    [[ -e $demo/.caselock-demo ]] || die "$demo is not a demo of Caselock"
    rm -rf -- "$demo"
    say "deleted $demo"
    exit ;;
  -*)
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2 ;;
esac
folder=${1:+$(realpath -- "$1")}
[[ -z $folder || -d $folder ]] || die "$folder is not a folder"

if [[ -z ${CASELOCK_PROGRAMS:-} ]]; then
  "$here/toolchain.sh"
  say "building release programs (about ten minutes on two cores the first time)"
  (cd -- "$repository" && cargo build --locked --release -p caselock-standalone -p caselock-uploader -p caselock-media-worker)
fi

mkdir -p -- "$demo"
touch -- "$demo/.caselock-demo"
"$here/dev-ca.sh" "$demo/ca" demo operator:archivist
if [[ -z $folder ]]; then
  folder=$demo/footage
  say "making a small set of footage in $folder"
  "$here/demo-footage.sh" "$folder"
fi

if ! running; then
  dir=$demo
  pick_ports GATEWAY REGISTRY ADMIN
fi
# shellcheck source=/dev/null
source "$demo/ports"
if ! running; then
  say "starting caselock-standalone on 127.0.0.1:$GATEWAY"
  CASELOCK__STANDALONE__DATA=$demo/data CASELOCK__GATEWAY__LISTEN=127.0.0.1:$GATEWAY \
    CASELOCK__GATEWAY__TLS__CERTIFICATE=$demo/ca/server.pem CASELOCK__GATEWAY__TLS__KEY=$demo/ca/server.key \
    CASELOCK__GATEWAY__TLS__CLIENT_CA=$demo/ca/ca.pem CASELOCK__ARCHIVER__SIGNING_KEY=$demo/ca/receipt-key.pem \
    CASELOCK__REGISTRY__LISTEN=127.0.0.1:$REGISTRY CASELOCK__ADMIN__LISTEN=127.0.0.1:$ADMIN \
    setsid nohup "$programs/caselock-standalone" </dev/null >>"$demo/server.log" 2>&1 &
  echo $! >"$demo/pid"
fi
for _ in $(seq 300); do
  [[ $(curl -s -m 5 "http://127.0.0.1:$ADMIN/readyz") != ready ]] || break
  running || { tail -n 20 -- "$demo/server.log" >&2; die "it did not start"; }
  sleep 0.1
done
[[ $(curl -s -m 5 "http://127.0.0.1:$ADMIN/readyz") == ready ]] || die "it is not ready: see $demo/server.log"

# A manifest in the folder says what each file is; these stand in for what it does not say.
options=()
for manifest in "$folder"/manifest.csv "$folder"/manifest.json; do
  [[ ! -f $manifest ]] || options=(--manifest "$manifest")
done
# The same on every run of a folder: a recording's metadata is fixed when it is first uploaded.
since=$demo/since-$(printf %s "$folder" | sha256sum | head -c 16)
[[ -s $since ]] || date -u +%Y-%m-%dT%H:%M:%SZ >"$since"
now=$(<"$since")
# What caselock needs to be used with this demo.
cat >"$demo/env" <<ENV
export CASELOCK_SERVER=https://127.0.0.1:$GATEWAY CASELOCK_REGISTRY=https://127.0.0.1:$REGISTRY
export CASELOCK_CA='$demo/ca/ca.pem' CASELOCK_CERT='$demo/ca/demo.pem' CASELOCK_KEY='$demo/ca/demo.key'
export CASELOCK_RECEIPT_KEYS='$demo/ca/receipt-key.pub.pem' CASELOCK_JOURNAL='$demo/journal'
export PATH='$programs':\$PATH
# The archivist, who closes cases: caselock case close … --bureau demo --cert … --key …
export ARCHIVIST_CERT='$demo/ca/operator-archivist.pem' ARCHIVIST_KEY='$demo/ca/operator-archivist.key'
ENV
code=0
"$programs/caselock" upload "$folder" "${options[@]}" \
  --server "https://127.0.0.1:$GATEWAY" --ca "$demo/ca/ca.pem" --cert "$demo/ca/demo.pem" --key "$demo/ca/demo.key" \
  --receipt-keys "$demo/ca/receipt-key.pub.pem" --journal "$demo/journal" --result "$demo/result.csv" \
  --set source=information_platform --set matter=inspection --set record_form=electronic_data --set unit=demo \
  --set officers=demo --set "recorded_started_at=$now" --set "recorded_ended_at=$now" || code=$?

say "waiting for proxies and pictures"
show --wait 600 || say "nothing was stored: see above why"
cat <<MESSAGE

Receipts:  $demo/journal/receipts     (check one: $programs/caselock receipt verify --receipt-keys $demo/ca/receipt-key.pub.pem FILE)
Results:   $demo/result.csv
Log:       $demo/server.log

Use it:      source $demo/env; caselock find; caselock case open 2026-罚-17; caselock deadlines list
Look again:  deploy/quickstart.sh show
Stop:        deploy/quickstart.sh stop
Delete:      deploy/quickstart.sh delete
MESSAGE
exit "$code"
