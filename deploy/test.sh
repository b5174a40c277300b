#!/usr/bin/env bash
# Installs what the tests need, starts a real Apache Kafka, a real S3 server with object lock and a real PostgreSQL, runs every
# test, and stops all three again, whatever happens.
#
# Servers of your own are used instead where they are named:
#   CASELOCK_TEST_POSTGRES=postgres://… (a user who may create databases; the tests leave theirs behind)
#   CASELOCK_TEST_KAFKA=host:port, _PROPERTIES (librdkafka's, name=value parted by commas: TLS, SASL), _JAVA_PROPERTIES (the same
#     for the Java client), _REPLICATION (default 1)
#   CASELOCK_TEST_S3_ENDPOINT, _REGION, _ACCESS_KEY, _SECRET_KEY, _BUCKET (a bucket with object lock, without lifecycle rules;
#     without it each test makes one of its own; a few always do). What the tests leave stays locked for 15 minutes, under e2e-*/
#     and test-*/, unless _SCRATCH says that the server's data is thrown away.
# Usage: deploy/test.sh [ARGUMENTS OF cargo test…]
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
cd -- "$here/.."

"$here/toolchain.sh"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

scratch=$(mktemp -d)
# PostgreSQL runs as a user of its own where this runs as root.
chmod 711 -- "$scratch"
stop() {
  # What single tests started and, killed, left behind.
  local server
  for server in "$scratch"/servers/*/; do
    [[ ! -d $server ]] || "$here/$(basename -- "$server" | cut -d. -f1).sh" stop "$server" || true
  done
  [[ ! -d $scratch/kafka ]] || "$here/kafka.sh" stop "$scratch/kafka" || true
  [[ ! -d $scratch/s3 ]] || "$here/s3.sh" stop "$scratch/s3" || true
  [[ ! -d $scratch/postgres ]] || "$here/postgres.sh" stop "$scratch/postgres" || true
  rm -rf -- "$scratch"
}
mkdir -- "$scratch/servers"
export CASELOCK_TEST_SERVERS=$scratch/servers
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Kafka's Java client, and Java, are needed wherever the server is.
"$here/kafka.sh" install
CASELOCK_TEST_KAFKA_LIBS=$("$here/kafka.sh" libs)
export CASELOCK_TEST_KAFKA_LIBS
if [[ -z ${CASELOCK_TEST_KAFKA:-} ]]; then
  "$here/kafka.sh" start "$scratch/kafka"
  set -a; eval "$("$here/kafka.sh" env "$scratch/kafka")"; set +a
fi
if [[ -z ${CASELOCK_TEST_S3_ENDPOINT:-}${CASELOCK_TEST_S3_BUCKET:-}${CASELOCK_TEST_S3_ACCESS_KEY:-} ]]; then
  "$here/s3.sh" install
  "$here/s3.sh" start "$scratch/s3"
  set -a; eval "$("$here/s3.sh" env "$scratch/s3")"; set +a
fi

if [[ -z ${CASELOCK_TEST_POSTGRES:-} ]]; then
  "$here/postgres.sh" install
  "$here/postgres.sh" start "$scratch/postgres"
  set -a; eval "$("$here/postgres.sh" env "$scratch/postgres")"; set +a
fi

"$here/python.sh" install
CASELOCK_TEST_PYTHON=$("$here/python.sh" path)
export CASELOCK_TEST_PYTHON

"$here/browser.sh" install
CASELOCK_TEST_BROWSER=$("$here/browser.sh" path)
export CASELOCK_TEST_BROWSER

b3sum=$(cache_dir)/tools/bin/b3sum
if [[ ! -x $b3sum ]]; then
  say "going to install b3sum (built by cargo) as $b3sum"
  cargo install --locked --root "$(cache_dir)/tools" b3sum@1.8.2
fi
export CASELOCK_TEST_B3SUM=$b3sum

say "building"
# The end-to-end tests start the programs themselves.
cargo build --locked --workspace --all-targets
say "testing"
cargo test --locked --workspace --no-fail-fast "$@"
