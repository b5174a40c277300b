#!/usr/bin/env bash
# Loads Caselock on this machine: brings up a real Kafka, a real S3 server and the services, runs a scenario, checks that nothing
# was lost, and ends them again. Its report lies in OUT/SCENARIO (report.html, report.json, record.jsonl).
# Usage: loadtest/run.sh SCENARIO [OUT]     OUT is loadtest-results in the current folder by default
#   bulk         8 recordings of 256 MiB at once                small        1,000 photos of 1 MiB
#   bureaus      a day's sessions, of 20 bureaus, in 2 minutes   bad-link     100 ms, 100 Mb/s, cut every 20 s
#   store-slow   50 ms (DELAY) more for each call of the store, 1,000 photos, 1 archiver and then 4
#   store-away   the S3 server killed for 20 s                  burst        more than the backlog may hold
#   many         8 and then 800 uploads at once                 half         devices at half of what they reach together
#   large        8,192 segments held; 4 × 1 GiB and then 16 GiB (fills 50 GB of the disk); without TLS
#   clips        real clips, with media                         soak         10 minutes of devices (SECONDS_OF_SOAK)
# A scenario of several loads has a report for each (many-8, many-800 …). With TLS=yes gateway and clients have certificates, and the
# report's name ends with -tls. Footage is kept for the next run, in the cache (~/.cache/caselock/loadtest): remove it when you are done.
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
scenario=${1:-}
out=$(realpath -m -- "${2:-loadtest-results}")
tls=${TLS:-no}
[[ $tls =~ ^(yes|no)$ ]] || die "TLS=$tls: expected yes or no"
[[ $tls == no ]] || suffix=-tls
[[ $scenario =~ ^(bulk|small|bureaus|bad-link|store-slow|store-away|burst|many|half|large|clips|soak)$ ]] || {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  [[ -z $scenario ]] || say "there is no scenario '$scenario'"
  exit 2
}
if [[ $scenario == bureaus ]]; then
  tls=yes
  bureaus=()
  for number in $(seq 20); do bureaus+=("bureau-$number"); done
fi
[[ $scenario != large || $tls == no ]] || die "large is measured without TLS: leave TLS away"
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
    folder=$(footage small --count 1000 --size 1M)
    # A broker that has just started spends four times as much on the first thousand.
    load "$folder" warm --parallel 16
    load "$folder" small --parallel 16
    ;;
  bureaus)
    gateway gateway
    archiver archiver ''
    load "$(footage mix --count 40 --mix)" bureaus --bureaus "$(IFS=,; echo "${bureaus[*]}")" --files 1 \
      --day "$loadtest/day.csv" --for 120 --cases
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
    folder=$(footage link --count 16 --size 64M)
    server=${server%:*}:$through load "$folder" bad-link --parallel 4
    sent=$(link_bytes)
    say "$sent bytes went over the link for $(du -sb "$folder" | cut -f1) of footage"
    ;;
  store-slow)
    toxiproxy
    through "${CASELOCK_TEST_S3_ENDPOINT##*:}"
    gateway gateway
    # Each has a window of its own for segments in hand, the least there is.
    archiver archiver-1 "http://127.0.0.1:$through" archiver.window=16777216
    folder=$(footage small --count 1000 --size 1M)
    # A broker that has just started is slower than any store.
    load "$folder" warm --parallel 16
    toxic up latency "{\"latency\": ${DELAY:-50}}"
    load "$folder" store-slow-1 --parallel 1000
    for number in 2 3 4; do archiver "archiver-$number" "http://127.0.0.1:$through" archiver.window=16777216; done
    load "$folder" store-slow-4 --parallel 1000
    ;;
  store-away)
    gateway gateway
    archiver archiver ''
    # Made before the clock begins to run.
    footage mix --count 40 --mix >/dev/null
    (sleep 15; "$repository/deploy/s3.sh" kill "$scratch/s3"; sleep 20; "$repository/deploy/s3.sh" start "$scratch/s3") &
    pids+=("$!")
    # It will be another process: what it takes is not in the report.
    measured=(kafka)
    load "$(footage mix --count 40 --mix)" store-away --files 4 --rate 0.5 --for 40
    ;;
  burst)
    # One bureau may have six tenths of it; and the archiver stores two parts at a time, in a store that is far away.
    toxiproxy
    through "${CASELOCK_TEST_S3_ENDPOINT##*:}"
    toxic down latency '{"latency": 200}'
    gateway gateway gateway.backlog_cap=268435456
    archiver archiver "http://127.0.0.1:$through" archiver.window=16777216
    load "$(footage mix --count 40 --mix)" burst --files 4 --rate 1 --for 15
    refused=$(curl -sf "http://127.0.0.1:${admin[gateway]}/metrics" |
      awk '/^caselock_gateway_refusals_total.*BACKLOG_FULL/ { sum += $2 } END { printf "%d", sum }')
    ((refused > 0)) || die "the backlog was never full"
    say "$refused segments were refused while the backlog was full, and came again"
    ;;
  many)
    gateway gateway
    archiver archiver ''
    # As many bytes in 8 as in 800.
    load "$(footage few --count 8 --size 400M)" many-8 --parallel 8
    folder=$(footage many --count 800 --size 4M)
    load "$folder" many-800 --parallel 800
    # The same from sixty docking PCs or so, within what a bureau may have at a gateway.
    load "$folder" many-links --rate 600 --for 0.1 --files 13 --parallel 13 --connections 60
    ;;
  half)
    gateway gateway
    archiver archiver ''
    folder=$(footage mix --count 40 --mix)
    load "$folder" half-highest --parallel 16
    rate=$(python3 -c 'import json, os, sys
folder, report = sys.argv[1:]
size = sum(entry.stat().st_size for entry in os.scandir(folder)) / len(os.listdir(folder))
print(json.load(open(report))["report"]["receipted_rate"] * 1e6 / size / 2)' "$folder" "$out/half-highest$suffix/report.json")
    load "$folder" half --files 1 --rate "$rate" --for 60
    ;;
  large)
    gateway gateway
    "$programs/caselock-loadtest" held --server "${url[gateway]}"
    archiver archiver ''
    # Until the archiver has given the held one up, it counts as 64 GiB of backlog: what is refused comes again.
    load "$(footage gib --count 4 --size 1G)" large-1 --parallel 1
    load "$(footage large --count 1 --size 16G)" large-16 --parallel 1
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
