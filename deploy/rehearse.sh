#!/usr/bin/env bash
# The runbooks, rehearsed: the chart on a real Kubernetes, beside three brokers of Kafka, an S3 server and PostgreSQL on this machine; each trouble is
# really made, and the page's own blocks are run, as they stand there, in their order. As root, on Debian; needs what k8s-test.sh needs.
#
#   rehearse.sh [PAGE…]          everything: up, the pages (all that have a rehearsal, by default), down
#   rehearse.sh up DIR           only brings it up, in DIR
#   rehearse.sh run DIR PAGE…    runs pages on what is up
#   rehearse.sh down DIR         ends it
#
# A page is a file of services/docs/runbooks/ without its .md. Its ```sh blocks are what an operator types. What the world does meanwhile stands in
# between as `<!-- rehearsal: COMMAND -->`: functions of this script.
set -Eeuo pipefail
# shellcheck source=deploy/k8s-lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/k8s-lib.sh"
cd -- "$deploy/.."
namespace=caselock-rehearsal
runbooks=services/docs/runbooks
export CASELOCK_LOAD_PARTITIONS=12

up() {
  install_tools
  cluster
  # Whoever is asked for what images are built from has another CA than the store.
  local others=${SSL_CERT_FILE:-}
  S3_TLS=yes POSTGRES_TLS=yes servers kafka-cluster s3 postgres
  SSL_CERT_FILE=$others
  [[ -n $others ]] || unset SSL_CERT_FILE
  cp -- "$scratch/kafka-cluster/ca/ca.pem" "$scratch/kafka-cluster/brokers-ca.pem"
  programs
  export SSL_CERT_FILE=$scratch/s3/ca/ca.pem
  local admin=$CASELOCK_TEST_POSTGRES
  # A database and a role of its own: the one may be dropped, the other gets a new password.
  psql -q "$admin" -c "CREATE ROLE registry LOGIN PASSWORD 'first'" -c 'CREATE DATABASE caselock OWNER registry'
  CASELOCK_TEST_POSTGRES=${admin%%://*}://registry:first@${admin##*@}
  CASELOCK_TEST_POSTGRES=${CASELOCK_TEST_POSTGRES%/*}/caselock
  # A key that may be ended.
  S3_ACCESS_KEY=caselockfirst S3_SECRET_KEY=$(openssl rand -hex 20)
  mc alias set store "$CASELOCK_TEST_S3_ENDPOINT" "$CASELOCK_TEST_S3_ACCESS_KEY" "$CASELOCK_TEST_S3_SECRET_KEY" >/dev/null
  mc mb --with-lock store/load >/dev/null
  mc admin user svcacct add store "$CASELOCK_TEST_S3_ACCESS_KEY" --access-key "$S3_ACCESS_KEY" --secret-key "$S3_SECRET_KEY" >/dev/null
  secrets
  kafka_keys first "$scratch/kafka-cluster/ca"
  ARCHIVERS=2 values >"$scratch/values.yaml"
  "$CASELOCK_PROGRAMS/caselock-loadtest" footage "$scratch/footage" --count 12 --size 20M >/dev/null
  step 'helm install'
  helm -n "$namespace" install caselock helm/caselock -f "$scratch/values.yaml" --wait --timeout 5m >/dev/null
  local name
  for name in KUBECONFIG CASELOCK_SERVER_HOST SSL_CERT_FILE PGSSLMODE PGSSLROOTCERT S3_ACCESS_KEY S3_SECRET_KEY images node ca CASELOCK_PROGRAMS CASELOCK_TEST_POSTGRES "${!CASELOCK_TEST_KAFKA@}" "${!CASELOCK_TEST_S3_@}"; do
    printf 'export %s=%q\n' "$name" "${!name}"
  done >"$scratch/state"
  printf 'export DATABASE_ADMIN=%q\n' "$admin" >>"$scratch/state"
}

install_tools() {
  # Which brings Go, where it is missing.
  "$deploy/s3.sh" install
  S3_CLOCK=yes "$deploy/s3.sh" install
  install_mc
  command -v cc >/dev/null || debian_packages gcc libc6-dev
}

# rehearse PAGE: runs it, from its first block to its last.
rehearse() {
  local page=$runbooks/$1.md began=$SECONDS script=$scratch/$1.sh
  step "$1"
  # Each block is printed before it is run.
  awk '
    /^ *<!-- rehearsal: .* -->$/ { sub(/^ *<!-- rehearsal: /, ""); sub(/ -->$/, ""); print; next }
    /^ *```sh$/ { inside = 1; indent = index($0, "`") - 1; block = ""; next }
    /^ *```$/ && inside { inside = 0; quoted = block; gsub(/\047/, "\047\\\047\047", quoted); printf "printf \"%%s\" \047%s\047 | sed \"s/^/  $ /\" >&2\n%s", quoted, block; next }
    inside { block = block substr($0, indent + 1) "\n" }' "$page" >"$script"
  [[ -s $script ]] || die "$page has no rehearsal"
  (
    trap 'say "failed in $script, line $LINENO"; failed' ERR
    export NAMESPACE=$namespace RELEASE=caselock NAME=caselock VALUES=$scratch/values.yaml KAFKA=$CASELOCK_TEST_KAFKA BUCKET=load S3_ENDPOINT=$CASELOCK_TEST_S3_ENDPOINT
    export CURL_CA_BUNDLE=$SSL_CERT_FILE
    load='' uploading='' page=$BASHPID
    # What a page waits for, it waits for without end.
    trap 'say "not over after ${LIMIT:-5400} s"; failed; exit 1' TERM
    (trap - ERR; trap 'kill $!' TERM; sleep "${LIMIT:-5400}" & wait $! && kill "$page") &
    limit=$!
    trap 'kill $load $uploading $limit 2>/dev/null || true' EXIT
    # shellcheck source=/dev/null
    source "$script"
  )
  say "$1: rehearsed in $((SECONDS - began)) s"
}

# What an operator has at hand.
kafka_tool() { java -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$("$deploy/kafka.sh" libs)/*" "$@"; }
kafka-topics.sh() { kafka_tool org.apache.kafka.tools.TopicCommand "$@"; }
kafka-log-dirs.sh() { kafka_tool org.apache.kafka.tools.LogDirsCommand "$@"; }
kafka-consumer-groups.sh() { kafka_tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
kafka-configs.sh() { kafka_tool kafka.admin.ConfigCommand "$@"; }
psql() { command psql -X -v ON_ERROR_STOP=1 "$@"; }

# What the world does.
# load_starts SECONDS [RATE]: uploads arrive for so long, so many a second, with cases and without.
load_starts() { load "$scratch/footage" "load-$RANDOM" --files 1 --rate "${2:-0.3}" --for "$1" --patience "$(($1 + 600))" --cases; }
# upload_starts FILE RATE [KEYS]: by the bureau's command, over a line of so many bytes a second; with the certificate in $bureau.
upload_starts() {
  local port at
  port=$(k get service caselock-gateway -o jsonpath='{.spec.ports[0].nodePort}')
  at=$(date -u -r "$1" +%Y-%m-%dT%H:%M:%SZ)
  "$CASELOCK_PROGRAMS/caselock" upload "$1" --server "https://$node:$port" --ca "$ca/ca.pem" --cert "${bureau:-$ca}/demo.pem" --key "${bureau:-$ca}/demo.key" \
    --receipt-keys "${3:-$ca/receipt-key.pub.pem}" --journal "$scratch/journal" --bwlimit "$2" --set source=information_platform \
    --set matter=inspection --set record_form=electronic_data --set unit=demo --set officers=demo --set "recorded_started_at=$at" --set "recorded_ended_at=$at" >"$scratch/upload.log" 2>&1 &
  uploading=$!
}
# case_tool ARGUMENT…: what an operator does with the bureau's cases.
case_tool() {
  "$deploy/dev-ca.sh" "$ca" operator:ops 2>/dev/null
  local port
  port=$(k get service caselock-registry -o jsonpath='{.spec.ports[0].nodePort}')
  "$CASELOCK_PROGRAMS/caselock" case "$@" --registry "https://$node:$port" --ca "$ca/ca.pem" --cert "$ca/operator-ops.pem" --key "$ca/operator-ops.key" \
    --bureau demo
}
# upload_is_under_way: some of it is acknowledged.
upload_is_under_way() {
  until k exec deploy/caselock-archiver -- caselock-admin --config /etc/caselock/settings/settings.toml uploads list | tee -a "$scratch/uploads.log" | grep -q .; do
    kill -0 "$uploading" || die 'the upload ended too soon'
    sleep 1
  done
}
upload_ends() { wait "$uploading" || { tail -n 20 "$scratch/upload.log" >&2; die "the upload did not end well"; }; uploading=; tail -n 3 "$scratch/upload.log"; }
# second_node: where what is drained finds room.
second_node() { kubectl get node node2 >/dev/null 2>&1 || "$deploy/k8s.sh" grow "$scratch/k8s"; }
# kafka_keys PASSWORD FOLDER: what services come to Kafka with, the certificate of FOLDER.
kafka_keys() {
  kafka-configs.sh --bootstrap-server "$CASELOCK_TEST_KAFKA" --alter --entity-type users --entity-name caselock --add-config "SCRAM-SHA-512=[password=$1]" >/dev/null
  put generic kafka-user --from-literal=password="$1"
  put tls kafka-client --cert="$2/client.pem" --key="$2/client.key"
  put generic kafka-ca --from-file=ca.crt="$scratch/kafka-cluster/brokers-ca.pem"
}
# brokers_trust FOLDER…: only clients' certificates under the CAs there. Brokers are started anew, one by one.
brokers_trust() {
  cat -- "${@/%//ca.pem}" >"$scratch/kafka-cluster/clients.pem"
  brokers_start_anew
}
brokers_start_anew() {
  local node behind
  for node in 1 2 3; do
    "$deploy/kafka.sh" stop "$(broker "$node")"
    broker_starts "$node"
    until behind=$(kafka-topics.sh --bootstrap-server "$CASELOCK_TEST_KAFKA" --describe --under-replicated-partitions) && [[ -z $behind ]]; do sleep 1; done
  done
}
# new_cas FOLDER: of the brokers, the store and the database, each with a server's certificate under it.
new_cas() {
  local server
  for server in kafka s3 postgres; do CASELOCK_CA_NAMES=IP:$CASELOCK_SERVER_HOST "$deploy/dev-ca.sh" "$1/$server" 2>/dev/null; done
}
# servers_under FOLDER: they have those certificates from now on, and no others.
servers_under() {
  (umask 077 && cat -- "$1/kafka/server.key" "$1/kafka/server.pem" >"$scratch/kafka-cluster/broker.pem")
  cp -- "$1/kafka/ca.pem" "$scratch/kafka-cluster/brokers-ca.pem"
  brokers_start_anew
  local server
  for server in s3 postgres; do
    cp -- "$1/$server"/* "$scratch/$server/ca/"
    "$deploy/$server.sh" stop "$scratch/$server"
    "$deploy/$server.sh" start "$scratch/$server"
  done
}
# keys_back: those that there were, of all kinds.
keys_back() {
  brokers_trust "$scratch/kafka-cluster/ca"
  psql -q "$DATABASE_ADMIN" -c "ALTER ROLE registry PASSWORD 'first'"
  mc admin user svcacct add store "$CASELOCK_TEST_S3_ACCESS_KEY" --access-key "$S3_ACCESS_KEY" --secret-key "$S3_SECRET_KEY" >/dev/null
  secrets
  kafka_keys first "$scratch/kafka-cluster/ca"
  k rollout restart deployment >/dev/null
  local part
  for part in gateway archiver media registry; do rolled "$part"; done
}
broker() { printf '%s\n' "$scratch/kafka-cluster/$1"; }
broker_dies() { "$deploy/kafka.sh" kill "$(broker "$1")"; }
broker_starts() { "$deploy/kafka.sh" start "$(broker "$1")"; }
store_dies() { "$deploy/s3.sh" kill "$scratch/s3"; }
store_starts() { "$deploy/s3.sh" start "$scratch/s3"; }
# store_clock SECONDS: it is started anew with a clock that is so far ahead; with its own if 0.
store_clock() {
  "$deploy/s3.sh" stop "$scratch/s3"
  if (($1)); then export S3_CLOCK=yes CLOCK_SHIFT=$1; else unset S3_CLOCK CLOCK_SHIFT; fi
  store_starts
}
# new_store: another one, empty, which mc knows as `new`. What the next load sent is looked for there.
new_store() {
  # Under the CA that services know already.
  mkdir -p -- "$scratch/s3-new"
  cp -r -- "$scratch/s3/ca" "$scratch/s3-new/"
  S3_TLS=yes "$deploy/s3.sh" start "$scratch/s3-new"
  set -a; eval "$("$deploy/s3.sh" env "$scratch/s3-new")"; set +a
  NEW_ENDPOINT=$CASELOCK_TEST_S3_ENDPOINT NEW_ACCESS_KEY=$CASELOCK_TEST_S3_ACCESS_KEY NEW_SECRET_KEY=$CASELOCK_TEST_S3_SECRET_KEY
  mc alias set new "$NEW_ENDPOINT" "$NEW_ACCESS_KEY" "$NEW_SECRET_KEY" >/dev/null
}
# clock_wrong PART SECONDS: new pods of it have a clock that is so far ahead, and are rolled out. clock_right PART: as before.
clock_wrong() {
  local image=$images/$1:late
  cc -shared -fPIC -O1 -Wall -Werror -o "$scratch/clock.so" "$deploy/rehearsal/clock.c" -ldl
  printf 'FROM localhost/caselock/%s:test\nCOPY --chmod=644 clock.so /clock.so\n' "$1" | podman build -q "${limits[@]}" -t "localhost/caselock/$1:late" -f - "$scratch" >/dev/null
  image_in "$1:late"
  revision=$(k get deployment "caselock-$1" -o jsonpath='{.metadata.annotations.deployment\.kubernetes\.io/revision}')
  k set image "deployment/caselock-$1" "$1=$image" >/dev/null
  k set env "deployment/caselock-$1" LD_PRELOAD=/clock.so "CLOCK_SHIFT=$2" >/dev/null
}
clock_right() { k rollout undo "deployment/caselock-$1" --to-revision="$revision" >/dev/null; rolled "$1"; }
# small_disk FOLDER SIZE: what is in it lies on a disk with so much room more, from now on. Nobody may have it open.
small_disk() {
  mv -- "$1" "$1.before"
  mkdir -- "$1"
  mount -t tmpfs -o "size=$(($(du -sm "$1.before" | cut -f1) + $2))M" tmpfs "$1"
  cp -a -- "$1.before/." "$1/"
  rm -rf -- "$1.before"
}
# disk_fills FOLDER: to the last byte. disk_grows FOLDER: by what filled it, and as much room as it had.
disk_fills() { head -c "$(df -B1 --output=avail "$1" | tail -n 1)" /dev/zero >"$1/ballast" 2>/dev/null || true; }
disk_grows() { mount -o "remount,size=$(($(df -BM --output=size "$1" | tail -n 1 | tr -dc 0-9) + $2))M" "$1"; }
# disks_as_before: what lies on a small one goes back to where it was.
disks_as_before() {
  "$deploy/kafka.sh" stop "$(broker 3)"
  "$deploy/s3.sh" stop "$scratch/s3"
  "$deploy/postgres.sh" stop "$scratch/postgres"
  local folder
  for folder in "$(broker 3)/data" "$scratch/s3/data" "$scratch/postgres/data"; do
    rm -- "$folder/ballast"
    cp -a -- "$folder" "$folder.small"
    umount "$folder"
    rmdir -- "$folder"
    mv -- "$folder.small" "$folder"
  done
  broker_starts 3
  store_starts
  "$deploy/postgres.sh" start "$scratch/postgres"
  k rollout restart deployment/caselock-registry >/dev/null
  rolled registry
}

case "${1:-}:$#" in
  up:2) scratch=$(server_dir "$2"); mkdir -p -- "$scratch"; chmod 711 -- "$scratch"; up ;;
  run:*)
    scratch=$(server_dir "$2")
    # shellcheck source=/dev/null
    source "$scratch/state"
    for page in "${@:3}"; do rehearse "$page"; done
    ;;
  down:2) scratch=$(server_dir "$2"); end_all ;;
  *)
    pages=("$@")
    for page in "${pages[@]}"; do [[ -f $runbooks/$page.md ]] || die "there is no page $page"; done
    # After move-store services are at another store: it comes last.
    ((${#pages[@]})) || mapfile -t pages < <(grep -l '^<!-- rehearsal: ' "$runbooks"/*.md | xargs -n1 basename -s .md | grep -vx move-store; echo move-store)
    scratch=$(mktemp -d)
    chmod 711 -- "$scratch"
    trap 'result=$?; trap - EXIT; end_all; exit "$result"' EXIT
    trap 'exit 130' INT TERM HUP
    up
    # shellcheck source=/dev/null
    source "$scratch/state"
    for page in "${pages[@]}"; do rehearse "$page"; done
    step 'all rehearsed'
    ;;
esac
