#!/usr/bin/env bash
# Caselock beside what a user would pick instead, in one run on one machine: rounds of ours and each peer's alternate. Prints a
# table of medians and spreads, and writes it into loadtest/README.md.
# Usage: loadtest/peers/compare.sh [bulk|small] [ROUNDS]     bulk: 8 × 256 MiB at once; small: 1,000 × 1 MiB; 5 rounds by default
# Peers: mc cp and aws s3 cp into the same locked bucket, tusd with its S3 back end (curl as its client), Kafka's own
# producer test with 8 MiB records and acks=all. Each round of bulk fills 9 GB of the disk, which are free again
# at the end, and 10 GB are needed beside them: 55 GB for five rounds. Peers are timed with their start, as a user would see them.
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"
what=${1:-bulk}
rounds=${2:-5}
case $what in
  bulk) count=8 size=256M bytes=$((8 * 256 << 20)) parallel=8 warm=1 ;;
  small) count=1000 size=1M bytes=$((1000 << 20)) parallel=16 warm=3 ;;
  *) sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
tools=$(cache_dir)/peers

# install: the peers, in versions that are named.
install() {
  mkdir -p -- "$tools"
  install_mc
  [[ -x $tools/tusd ]] || { say "going to install tusd"; GOBIN=$tools go install github.com/tus/tusd/v2/cmd/tusd@v2.9.1; }
  [[ -x $tools/aws/bin/aws ]] || {
    say "going to install the AWS CLI (PyPI)"
    python3 -c 'import ensurepip' 2>/dev/null || debian_packages python3-venv
    python3 -m venv "$tools/aws"
    "$tools/aws/bin/pip" install -q --disable-pip-version-check awscli==1.46.3
  }
}

# round PEER COMMAND…: runs it, and adds a line to $lines: when it began and ended, processor seconds of itself, and hundredths of those
# of the servers and of tusd, before and after.
round() {
  local peer=$1 before after began ended own
  shift
  level
  before="$(cpu "$(<"$scratch/kafka/pid")") $(cpu "$(<"$scratch/s3/pid")") $(cpu "$tusd")"
  began=$EPOCHREALTIME
  TIMEFORMAT='%U %S'
  own=$({ time "$@" >"$scratch/peer.log" 2>&1; } 2>&1) || { tail -n 20 -- "$scratch/peer.log" "$scratch/tusd.log" >&2; die "$peer failed"; }
  ended=$EPOCHREALTIME
  after="$(cpu "$(<"$scratch/kafka/pid")") $(cpu "$(<"$scratch/s3/pid")") $(cpu "$tusd")"
  echo "$peer $bytes $began $ended $own $before $after" >>"$lines"
  say "$peer: $(awk -v b="$bytes" -v s="$began" -v e="$ended" 'BEGIN { printf "%.0f MB/s", b / 1e6 / (e - s) }')"
}

mc_cp() {
  mc --quiet cp --recursive --retention-mode compliance --retention-duration 183d \
    "$folder/" "load/load/peers/mc-$1/"
}

aws_cp() {
  AWS_ACCESS_KEY_ID=$CASELOCK_TEST_S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CASELOCK_TEST_S3_SECRET_KEY AWS_REGION=us-east-1 \
    "$tools/aws/bin/aws" --endpoint-url "$CASELOCK_TEST_S3_ENDPOINT" s3 cp --only-show-errors --recursive "$folder" "s3://load/peers/aws-$1"
}

# Each file by a curl of its own, so many at once, as in the other rounds: created and sent in one request.
tus() {
  find "$folder" -type f -print0 | xargs -0 -P "$parallel" -I{} bash -c '
    length=$(stat -c %s "$1")
    curl -sSf -o /dev/null -X POST -H "Tus-Resumable: 1.0.0" -H "Upload-Length: $length" \
      -H "Content-Type: application/offset+octet-stream" -H "Expect:" -T - "$2" <"$1"' _ {} "http://127.0.0.1:$tus_port/files/"
}

topic() {
  java -cp "$("$repository/deploy/kafka.sh" libs)/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "$CASELOCK_TEST_KAFKA" \
    --topic peers "$@" >/dev/null 2>&1
}

kafka_test() {
  java -Xmx1g -cp "$("$repository/deploy/kafka.sh" libs)/*" org.apache.kafka.tools.ProducerPerformance --topic peers \
    --num-records $((bytes >> 23)) --record-size $((8 << 20)) --throughput -1 --producer-props \
    "bootstrap.servers=$CASELOCK_TEST_KAFKA" acks=all max.request.size=16777216 buffer.memory=134217728 batch.size=16777216
}

ours() {
  level
  server=${url[gateway]} load "$folder" "plain-$1" --parallel "$parallel"
}

# The same with certificates on both sides.
ours_tls() {
  level
  tls=yes server=${url[gateway-tls]} load "$folder" "tls-$1" --parallel "$parallel"
}

# The same, the archiver standing still until everything is acknowledged.
ours_accepted() {
  level
  server=${url[gateway]} load "$folder" "accepted-$1" --parallel "$parallel" --hold archiver
}

build
up
install
folder=$(footage "$what" --count "$count" --size "$size")
out=$scratch/out
lines=$scratch/lines
mc --quiet alias set load "$CASELOCK_TEST_S3_ENDPOINT" "$CASELOCK_TEST_S3_ACCESS_KEY" \
  "$CASELOCK_TEST_S3_SECRET_KEY" >/dev/null
while tus_port=$((12000 + RANDOM % 7000)); answers "$tus_port"; do :; done
AWS_ACCESS_KEY_ID=$CASELOCK_TEST_S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CASELOCK_TEST_S3_SECRET_KEY AWS_REGION=us-east-1 \
  "$tools/tusd" -host 127.0.0.1 -port "$tus_port" -s3-bucket load -s3-endpoint "$CASELOCK_TEST_S3_ENDPOINT" -s3-object-prefix peers/tus/ \
  -hooks-enabled-events "" >"$scratch/tusd.log" 2>&1 &
tusd=$!
pids+=("$tusd")
gateway gateway
# It would follow the log as well, for nothing.
[[ $what != bulk ]] || tls=yes gateway gateway-tls
archiver archiver ''

# Not counted: brokers compile as they go, and are level at the third thousand of photos.
for number in $(seq "$warm"); do server=${url[gateway]} load "$folder" "warm-$number" --parallel "$parallel" >/dev/null; done
rm -r -- "$out"

for number in $(seq "$rounds"); do
  ours "$number" >&2
  [[ $what != bulk ]] || ours_tls "$number" >&2
  round mc mc_cp "$number"
  round aws aws_cp "$number"
  round tusd tus
  if [[ $what == bulk ]]; then
    # What is not locked makes room for the next round. Thousands of small objects stay: MinIO would still be deleting them during it.
    for peer in tus "aws-$number"; do
      mc --quiet rm --recursive --force --versions "load/load/peers/$peer/" >/dev/null
    done
    topic --create --partitions 12 --replication-factor 1 --config max.message.bytes=18874368
    round kafka kafka_test
    topic --delete
    # Every file must be on its way at once.
    ours_accepted "$number" >&2
  fi
  # After each round: what was measured is there even if the next one fails.
  python3 "$loadtest/peers/table.py" "$what" "$number" "$lines" "$loadtest/README.md" "$out"/*/report.json >"$scratch/table"
done
cat -- "$scratch/table"
