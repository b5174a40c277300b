#!/usr/bin/env bash
# Dashboards and alerts on a real Prometheus beside the running services: every query of every dashboard has an answer, and three alerts are really
# caused, fire, and clear. Brings up Kafka, an S3 server and the services on this machine, and ends them again. The rules' times are shortened sixty times
# (`for: 5m` is five seconds, a quarter of an hour fifteen).
# Usage: deploy/observe-test.sh
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../loadtest/lib.sh"
cd -- "$repository"
version=v0.316.0
prometheus=$(cache_dir)/tools/bin/prometheus

install_prometheus() {
  [[ ! -x $prometheus ]] || return 0
  hold_lock "$(cache_dir)/prometheus.lock"
  say "going to install Prometheus $version (built from its Go module)"
  GOBIN=$(dirname -- "$prometheus") go install "github.com/prometheus/prometheus/cmd/prometheus@$version"
  # What is started from here on must not hold it.
  exec 9>&-
}

registry() {
  local settings
  while registry=$((12000 + RANDOM % 7000)); answers "$registry"; do :; done
  mapfile -t settings < <(kafka_settings; s3_settings)
  start registry registry "registry.database=sqlite:$scratch/registry.sqlite?mode=rwc" "registry.listen=127.0.0.1:$registry" \
    registry.plaintext_bureau=demo "${settings[@]}"
}

watch() {
  local name
  while port=$((12000 + RANDOM % 7000)); answers "$port"; do :; done
  # Its own times, sixty times as fast.
  sed -E 's/for: ([0-9]+)m/for: \1s/; s/for: 1h/for: 60s/; s/_seconds\) > 900/_seconds) > 15/; s/\[1d\]/[10m]/; s/interval: 30s/interval: 1s/' \
    deploy/prometheus/caselock.rules.yaml >"$scratch/rules.yaml"
  {
    printf 'global: {scrape_interval: 2s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\nscrape_configs:\n  - job_name: caselock\n    static_configs:\n'
    for name in "${!admin[@]}"; do
      printf '      - {targets: ["127.0.0.1:%s"], labels: {namespace: footage, pod: %s}}\n' "${admin[$name]}" "$name"
    done
  } >"$scratch/prometheus.yaml"
  "$prometheus" --config.file="$scratch/prometheus.yaml" --storage.tsdb.path="$scratch/prometheus" --log.level=warn \
    --web.listen-address="127.0.0.1:$port" >>"$scratch/prometheus.log" 2>&1 &
  pids+=("$!")
  until curl -sf "http://127.0.0.1:$port/-/ready" >/dev/null; do
    kill -0 "$!" 2>/dev/null || { tail -n 20 -- "$scratch/prometheus.log" >&2; die "Prometheus did not start"; }
    sleep 0.2
  done
}

# firing ALERT: does it fire?
firing() {
  local said
  said=$(curl -sf --data-urlencode "query=ALERTS{alertname=\"$1\",alertstate=\"firing\"}" "http://127.0.0.1:$port/api/v1/query") ||
    die "Prometheus does not answer"
  [[ $said == *'"metric"'* ]]
}

# until_it ALERT fires|clears
until_it() {
  local deadline=$((SECONDS + 180)) since=$SECONDS
  while firing "$1"; do [[ $2 == clears ]] || break; ((SECONDS < deadline)) || die "$1 does not clear"; sleep 1; done
  until firing "$1"; do [[ $2 == fires ]] || break; ((SECONDS < deadline)) || die "$1 does not fire"; sleep 1; done
  say "$1 $2 after $((SECONDS - since)) s"
}

upload() { load "$(footage observe --count 6 --mix)" observe --files 2 --rate 1 --for 4 >/dev/null; }

# Certificates are looked at as well.
# shellcheck disable=SC2034
tls=yes
build
[[ -n ${CASELOCK_PROGRAMS:-} ]] || cargo build --locked --release -p caselock-registry -p caselock-admin -p caselock-uploader
install_prometheus
up
out=$scratch/runs
mkdir -- "$out"
mapfile -t flags < <(kafka_settings; s3_settings)
admin() { "$programs/caselock-admin" "${flags[@]/#/--set=}" "$@"; }
gateway gateway
archiver archiver ''
media
registry
watch

say "every query of every dashboard"
upload
"$programs/caselock" case list --registry "http://127.0.0.1:$registry" >/dev/null
python3 - "$port" deploy/grafana/*.json <<'PYTHON'
import json, sys, time, urllib.parse, urllib.request

port, files = sys.argv[1], sys.argv[2:]

def ask(expr):
    for name, value in (("$namespace", ".*"), ("$bureau", ".*"), ("$__rate_interval", "1m")):
        expr = expr.replace(name, value)
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    return json.load(urllib.request.urlopen(url))["data"]["result"]

empty = []
deadline = time.monotonic() + 90
for file in files:
    board = json.load(open(file))
    print(board["title"])
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            # Media goes on for a while, and a rate needs two looks.
            while not (found := ask(target["expr"])) and time.monotonic() < deadline:
                time.sleep(1)
            values = ", ".join(f"{float(one['value'][1]):.4g}" for one in found[:4])
            print(f"  {panel['title']:40.40} {len(found):3} series: {values}")
            if not found:
                empty.append(f"{board['title']}, {panel['title']}: {target['expr']}")
sys.exit("\n".join(["no answer:"] + empty) if empty else 0)
PYTHON

say "a video that is none: a dead letter"
mkdir -- "$out/broken"
{ printf '\0\0\0\030ftypisom\0\0\002\0isomiso2'; head -c 1000 /dev/zero; } >"$out/broken/broken.mp4"
load "$out/broken" broken >/dev/null
until_it CaselockDeadLetters fires
mapfile -t letters < <(admin dead-letters list | cut -d' ' -f1)
admin dead-letters drop "${letters[@]}" --reason 'a trial' --by observe-test
until_it CaselockDeadLetters clears

say "media dies"
kill -KILL "${pid[media]}"
until_it CaselockServiceAway fires
media_port=${admin[media]}
unset 'admin[media]'
mapfile -t settings < <(kafka_settings; s3_settings)
"$programs/caselock-media" "${settings[@]/#/--set=}" "--set=media.scratch=$scratch/media" "--set=admin.listen=127.0.0.1:$media_port" \
  >>"$scratch/media.log" 2>&1 &
pids+=("$!")
until_it CaselockServiceAway clears

say "the store is away"
"$repository/deploy/s3.sh" kill "$scratch/s3"
measured=(kafka)
(upload) &
uploading=$!
pids+=("$!")
until_it CaselockUnarchived fires
firing CaselockStoreFails && say "CaselockStoreFails fires as well"
"$repository/deploy/s3.sh" start "$scratch/s3"
until_it CaselockUnarchived clears
wait "$uploading" || die "an upload did not end well"
say 'every query has an answer; three alerts fired and cleared'
