#!/usr/bin/env bash
# Loads Caselock on this machine: brings up a real Kafka, a real S3 server and the services, runs a scenario, checks that nothing
# was lost, and ends them again. Its report lies in OUT/SCENARIO (report.html, report.json, record.jsonl).
# Usage: loadtest/run.sh SCENARIO [OUT]     OUT is loadtest-results in the current folder by default
#   bulk         8 recordings of 256 MiB at once                small        1,000 photos of 1 MiB
#   bureaus      a day at a bureau, of 20 bureaus, in 2 minutes  bad-link     100 ms, 100 Mb/s, cut every 20 s
#   store-slow   50 ms more for each call of the store, 1,000 photos, 1 archiver and then 4
#   store-away   the S3 server killed for 20 s                  burst        more than the backlog may hold
#   clips        real clips, with media                         soak         10 minutes of devices (SECONDS_OF_SOAK)
# With TLS=yes gateway and clients have certificates.
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
scenario=${1:-}
out=$(realpath -m -- "${2:-loadtest-results}")
tls=${TLS:-no}
[[ $scenario =~ ^(bulk|small|bureaus|bad-link|store-slow|store-away|burst|clips|soak)$ ]] || {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}
if [[ $scenario == bureaus ]]; then
  tls=yes
  bureaus=()
  for number in $(seq 20); do bureaus+=("bureau-$number"); done
fi
build
up

case $scenario in
  bulk)
    gateway gateway
    archiver archiver ''
    load "$(footage bulk --count 8 --size 256M)" bulk --parallel 8
    ;;
  small)
    gateway gateway
    archiver archiver ''
    load "$(footage small --count 1000 --size 1M)" small --parallel 16
    ;;
  bureaus)
    gateway gateway
    archiver archiver ''
    load "$(footage mix --count 40 --mix)" bureaus --bureaus "$(IFS=,; echo "${bureaus[*]}")" --files 1 \
      --day "$loadtest/day.csv" --for 120
    ;;
  bad-link)
    gateway gateway
    archiver archiver ''
    toxiproxy
    server=${url[gateway]}
    through "${server##*:}"
    toxic down latency '{"latency": 50}'
    toxic up latency '{"latency": 50}'
    # Kilobytes a second: 100 Mb/s.
    toxic up bandwidth '{"rate": 12500}'
    (while sleep 20; do cut_link; done) &
    pids+=("$!")
    server=${server%:*}:$through load "$(footage link --count 8 --size 64M)" bad-link --parallel 4
    ;;
  store-slow)
    toxiproxy
    through "${CASELOCK_TEST_S3_ENDPOINT##*:}"
    toxic up latency '{"latency": 50}'
    gateway gateway
    # Each has a window of its own for segments in hand.
    archiver archiver-1 "http://127.0.0.1:$through" archiver.window=67108864
    load "$(footage small --count 1000 --size 1M)" store-slow-1 --parallel 64
    for number in 2 3 4; do archiver "archiver-$number" "http://127.0.0.1:$through" archiver.window=67108864; done
    load "$(footage small --count 1000 --size 1M)" store-slow-4 --parallel 64
    ;;
  store-away)
    gateway gateway
    archiver archiver ''
    # Made before the clock begins to run.
    footage mix --count 40 --mix >/dev/null
    (sleep 15; "$repository/deploy/s3.sh" kill "$scratch/s3"; sleep 20; "$repository/deploy/s3.sh" start "$scratch/s3") &
    pids+=("$!")
    load "$(footage mix --count 40 --mix)" store-away --files 4 --rate 0.5 --for 40
    ;;
  burst)
    # One bureau may have six tenths of it.
    gateway gateway gateway.backlog_cap=1073741824
    archiver archiver ''
    load "$(footage mix --count 40 --mix)" burst --files 4 --rate 1 --for 15
    ;;
  clips)
    gateway gateway
    archiver archiver ''
    media
    load "$(footage clips --count 4 --codec h264 --seconds 30)" clips
    ;;
  soak)
    gateway gateway
    archiver archiver ''
    load "$(footage mix --count 40 --mix)" soak --files 2 --rate 0.1 --for "${SECONDS_OF_SOAK:-600}"
    ;;
esac
