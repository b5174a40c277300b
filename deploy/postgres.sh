#!/usr/bin/env bash
# A real PostgreSQL, for tests and trials on one machine. Not for production.
#
#   postgres.sh install      once: the Debian package postgresql, unless there is one
#   postgres.sh start DIR    starts it in the background, data in DIR/data, and returns when it answers
#   postgres.sh stop DIR     stops it in order
#   postgres.sh kill DIR     kills it (SIGKILL), as a crash would
#   postgres.sh env DIR      prints CASELOCK_TEST_POSTGRES as a KEY=value line; with TLS PGSSLMODE and PGSSLROOTCERT as well, for PostgreSQL's own tools
#
# With POSTGRES_TLS=yes at its first start in DIR it speaks TLS from then on, by DIR/ca/server.pem, a certificate for localhost and
# $CASELOCK_SERVER_HOST of the CA beside it (dev-ca.sh). What is there when it starts is kept.
#
# A second start in the same DIR has the same address, password and data. The log is DIR/server.log. PostgreSQL refuses to run
# as root: root's runs as the user postgres, who must be able to reach DIR.

set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

binaries() { printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1; }

install() {
  [[ ! -x $(binaries)/postgres ]] || return 0
  hold_lock "$(cache_dir)/postgres.lock"
  [[ -x $(binaries)/postgres ]] || debian_packages postgresql
}

# What runs a command as a user that PostgreSQL accepts.
unprivileged=()
((EUID != 0)) || unprivileged=(setpriv --reuid=postgres --regid=postgres --init-groups)

start() {
  [[ -x $(binaries)/postgres ]] || die "PostgreSQL is not installed: run '$0 install' first"
  mkdir -p -- "$dir"
  pick_ports POSTGRES
  if [[ ! -s $dir/data/PG_VERSION ]]; then
    rm -rf -- "$dir/data"
    install_data
  fi
  # The lock ensures that none of ours is running: what a killed one left would stop the next where nobody reaps the dead.
  rm -f -- "$dir/data/postmaster.pid"
  local tls=()
  if [[ ${POSTGRES_TLS:-no} == yes ]] || speaks_tls; then
    CASELOCK_CA_NAMES=IP:$server_host "$here/dev-ca.sh" "$dir/ca"
    # It wants a key that is its own.
    cp -- "$dir/ca/server.pem" "$dir/ca/server.key" "$dir/data/"
    ((EUID != 0)) || chown postgres: "$dir/data/server.key" "$dir/data/server.pem"
    tls=(-c ssl=on -c ssl_cert_file=server.pem -c ssl_key_file=server.key)
  fi
  launch "${unprivileged[@]}" "$(binaries)/postgres" -D "$dir/data" -c listen_addresses="$listen_host" -c "port=$(port POSTGRES)" \
    -c unix_socket_directories= -c max_connections=200 "${tls[@]}"
  say "PostgreSQL answers on 127.0.0.1:$(port POSTGRES), data in $dir/data"
}

install_data() {
  (umask 077 && head -c 20 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$dir/password")
  mkdir -p -- "$dir/data"
  if ((EUID == 0)); then
    chown postgres: "$dir/data" "$dir/password"
    "${unprivileged[@]}" test -w "$dir/data" || die "the user postgres can't reach $dir/data"
  fi
  "${unprivileged[@]}" "$(binaries)/initdb" -D "$dir/data" --username=caselock --pwfile="$dir/password" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 >"$dir/initdb.log" 2>&1 || { tail -n 20 "$dir/initdb.log" >&2; die "initdb failed"; }
  echo 'host all all samenet scram-sha-256' >>"$dir/data/pg_hba.conf"
}

speaks_tls() { [[ -s $dir/data/server.key ]]; }

ready() { "$(binaries)/pg_isready" -q -h 127.0.0.1 -p "$(port POSTGRES)"; }

environment() {
  [[ -s $dir/password ]] || die "nothing was ever started in $dir"
  printf 'CASELOCK_TEST_POSTGRES=postgres://caselock:%s@%s:%s/postgres\n' "$(<"$dir/password")" "$server_host" "$(port POSTGRES)"
  ! speaks_tls || printf 'PGSSLMODE=verify-full\nPGSSLROOTCERT=%s\n' "$dir/ca/ca.pem"
}

mark_of() { printf '%s\n' "$dir/data"; }

# Its "fast" end: connections are closed, none is waited for.
stop_signal=INT
life_cycle "$@"
