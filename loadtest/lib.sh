# shellcheck shell=bash
# What run.sh and the scripts of peers/ share: the servers and services of a run, in a scratch folder, and their end. Sourced, never run.

loadtest=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd -- "$loadtest/.." && pwd)
# shellcheck source=deploy/lib.sh
source "$repository/deploy/lib.sh"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
programs=${CASELOCK_PROGRAMS:-${CARGO_TARGET_DIR:-$repository/target}/release}

# build: the services and the load generator, unless CASELOCK_PROGRAMS names a folder of them.
build() {
  [[ -z ${CASELOCK_PROGRAMS:-} ]] || return 0
  "$repository/deploy/toolchain.sh"
  say "building release programs"
  (cd -- "$repository" && cargo build --locked --release -p caselock-gateway -p caselock-archiver -p caselock-media \
    -p caselock-media-worker -p caselock-standalone -p caselock-loadtest)
}

# up: Kafka and the S3 server, a bucket and topics. Sets $scratch; all of it ends with this shell.
up() {
  scratch=$(mktemp -d -- "${TMPDIR:-/tmp}/caselock-load.XXXXXX")
  chmod 711 -- "$scratch"
  trap down EXIT
  trap 'exit 130' INT TERM HUP
  local server
  for server in kafka s3; do
    "$repository/deploy/$server.sh" install
    "$repository/deploy/$server.sh" start "$scratch/$server"
    set -a; eval "$("$repository/deploy/$server.sh" env "$scratch/$server")"; set +a
  done
  export CASELOCK_LOAD_TOPIC_PREFIX=load. CASELOCK_LOAD_PARTITIONS=12
  "$repository/deploy/dev-ca.sh" "$scratch/ca" "${bureaus[@]}" >/dev/null 2>&1
  "$programs/caselock-loadtest" prepare
}

down() {
  local server pid
  # One may have been held.
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && kill -CONT "$pid" || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  for server in kafka s3; do
    [[ ! -d $scratch/$server ]] || "$repository/deploy/$server.sh" stop "$scratch/$server" || true
  done
  rm -rf -- "$scratch"
}

bureaus=(demo)
# What names of reports end with.
suffix=
pids=()
# Servers whose use is in the report.
measured=(kafka s3)

# start SERVICE NAME SETTING…: a service, called NAME in the report, with further settings (KEY=VALUE). Sets ${pid[NAME]} and
# ${admin[NAME]}, and waits until it is ready.
declare -A pid admin
start() {
  local service=$1 name=$2 port setting flags=()
  shift 2
  while port=$((12000 + RANDOM % 7000)); answers "$port"; do :; done
  for setting in "admin.listen=127.0.0.1:$port" "$@"; do flags+=(--set "$setting"); done
  "$programs/caselock-$service" "${flags[@]}" </dev/null >>"$scratch/$name.log" 2>&1 &
  pid[$name]=$! admin[$name]=$port
  pids+=("$!")
  local deadline=$((SECONDS + 60))
  until [[ $(curl -s -m 5 "http://127.0.0.1:$port/readyz") == ready ]]; do
    kill -0 "${pid[$name]}" 2>/dev/null && ((SECONDS < deadline)) || { tail -n 20 -- "$scratch/$name.log" >&2; die "$name did not start"; }
    sleep 0.1
  done
}

kafka_settings() {
  printf '%s\n' "kafka.brokers=$CASELOCK_TEST_KAFKA" kafka.topic_prefix=load. kafka.partitions=12 kafka.single_node=true
}

# s3_settings [ENDPOINT]
s3_settings() {
  printf '%s\n' s3.bucket=load "s3.endpoint=\"${1:-$CASELOCK_TEST_S3_ENDPOINT}\"" "s3.access_key=\"$CASELOCK_TEST_S3_ACCESS_KEY\"" \
    "s3.secret_key=\"$CASELOCK_TEST_S3_SECRET_KEY\""
}

# gateway NAME SETTING…: sets ${url[NAME]}. With tls=yes it has certificates, else its one bureau is demo.
declare -A url
gateway() {
  local name=$1 port settings
  shift
  while port=$((12000 + RANDOM % 7000)); answers "$port"; do :; done
  mapfile -t settings < <(kafka_settings)
  if [[ ${tls:-no} == yes ]]; then
    settings+=("gateway.tls.certificate=$scratch/ca/server.pem" "gateway.tls.key=$scratch/ca/server.key"
      "gateway.tls.client_ca=$scratch/ca/ca.pem")
    url[$name]=https://localhost:$port
  else
    settings+=(gateway.plaintext_bureau=demo)
    url[$name]=http://127.0.0.1:$port
  fi
  start gateway "$name" "gateway.listen=127.0.0.1:$port" "${settings[@]}" "$@"
}

# archiver NAME ENDPOINT SETTING…: with an S3 endpoint of its own, or an empty one.
archiver() {
  local name=$1 endpoint=$2 settings
  shift 2
  mapfile -t settings < <(kafka_settings; s3_settings "$endpoint")
  start archiver "$name" "archiver.signing_key=$scratch/ca/receipt-key.pem" "${settings[@]}" "$@"
}

media() {
  local settings
  mapfile -t settings < <(kafka_settings; s3_settings)
  mkdir -p -- "$scratch/media"
  start media media "media.scratch=$scratch/media" "${settings[@]}"
}

# load FOOTAGE NAME FLAG…: a run against the gateways, its report in $out/NAME.
load() {
  local footage=$1 name=$2 flags=() process servers
  shift 2
  for process in "${!pid[@]}"; do flags+=(--process "$process=${pid[$process]}"); done
  for process in "${measured[@]}"; do flags+=(--process "$process=$(<"$scratch/$process/pid")"); done
  [[ ${tls:-no} != yes ]] || flags+=(--ca "$scratch/ca")
  servers=$(IFS=,; echo "${url[*]}")
  "$programs/caselock-loadtest" run "$footage" --name "$name$suffix" --out "$out/$name$suffix" --server "${server:-$servers}" \
    --receipt-key "$scratch/ca/receipt-key.pub.pem" "${flags[@]}" "$@"
}

# footage NAME FLAG…: files that are kept for later runs. Prints their folder.
footage() {
  local folder
  folder=$(cache_dir)/loadtest/$1
  shift
  "$programs/caselock-loadtest" footage "$folder" "$@"
  printf '%s\n' "$folder"
}

# cpu PID: its processor seconds so far, in hundredths.
cpu() {
  local stat
  stat=$(<"/proc/$1/stat")
  read -r -a stat <<<"${stat##*) }"
  echo $((stat[11] + stat[12]))
}

# level: 4 GB of free memory are touched, so that every round begins alike. On virtual machines memory that was long free is taken back, and
# the first to write to it waits for the host: ten times as long as for the write.
level() {
  dd if=/dev/zero of="$scratch/level" bs=8M count=512 status=none
  rm -f -- "$scratch/level"
  sync
}

# toxiproxy: a proxy that makes links bad, in the background.
toxiproxy() {
  local port program
  program=$(cache_dir)/toxiproxy/toxiproxy-server
  if [[ ! -x $program ]]; then
    say "going to install toxiproxy (built from its Go module)"
    GOBIN=$(cache_dir)/toxiproxy go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
    mv -- "$(cache_dir)/toxiproxy/server" "$program"
  fi
  while port=$((12000 + RANDOM % 7000)); answers "$port"; do :; done
  "$program" -port "$port" -seed 1 -proxy-metrics >"$scratch/toxiproxy.log" 2>&1 &
  pids+=("$!")
  toxiproxy=http://127.0.0.1:$port
  until curl -sf "$toxiproxy/version" >/dev/null; do sleep 0.1; done
}

# through PORT: a way to a local port that toxics act on. Sets $through, its own port.
through() {
  while through=$((12000 + RANDOM % 7000)); answers "$through"; do :; done
  curl -sf "$toxiproxy/proxies" -d "{\"name\": \"link\", \"listen\": \"127.0.0.1:$through\", \"upstream\": \"127.0.0.1:$1\"}" >/dev/null
}

# toxic up|down KIND ATTRIBUTES: on what clients send, or on what they get.
toxic() {
  curl -sf "$toxiproxy/proxies/link/toxics" -d "{\"type\": \"$2\", \"stream\": \"${1}stream\", \"attributes\": $3}" >/dev/null
}

# link_bytes: what clients sent into the link so far.
link_bytes() {
  curl -sf "$toxiproxy/metrics" | awk '/^toxiproxy_proxy_received_bytes_total.*direction="upstream"/ { sum += $2 } END { printf "%.0f", sum }'
}

# cut_link: every connection ends, and new ones may be made.
cut_link() {
  curl -sf "$toxiproxy/proxies/link" -d '{"enabled": false}' >/dev/null
  curl -sf "$toxiproxy/proxies/link" -d '{"enabled": true}' >/dev/null
}
