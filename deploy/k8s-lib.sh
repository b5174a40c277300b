# shellcheck shell=bash
# What k8s-test.sh and rehearse.sh share: a cluster, the servers beside it, images, secrets and values of an installation, and the load on it. Sourced,
# never run. Whoever sources it has set $scratch and $namespace.

# shellcheck source=deploy/images/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/images/lib.sh"
deploy=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$("$deploy/chart-tools.sh" path):$("$deploy/k8s.sh" path):$PATH"
step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS" >&2; }
k() { kubectl -n "$namespace" "$@"; }

# failed: what one wants to see of it.
failed() {
  k get pods -o wide
  k get events --sort-by=.lastTimestamp | tail -n 25
  local pod
  for pod in $(k get pods -o name); do
    echo "--- $pod"
    k logs "$pod" --all-containers --tail=15
    k logs "$pod" --all-containers --tail=15 --previous 2>/dev/null
  done
} >&2

# cluster: that of the current kubeconfig if it answers, with CASELOCK_SERVER_HOST, an address of this machine that its pods reach, and
# CASELOCK_IMAGES, a registry to push to that it pulls from; otherwise one is started in $scratch/k8s. Sets $images.
cluster() {
  step cluster
  images=localhost/caselock
  "$deploy/chart-tools.sh" install
  if kubectl get --raw /readyz >/dev/null 2>&1; then
    [[ -n ${CASELOCK_SERVER_HOST:-} && -n ${CASELOCK_IMAGES:-} ]] || die "set CASELOCK_SERVER_HOST and CASELOCK_IMAGES for a cluster of your own"
    images=$CASELOCK_IMAGES
    return
  fi
  export KUBECONFIG=$scratch/k8s/kubeconfig CASELOCK_SERVER_HOST=10.244.0.1
  "$deploy/k8s.sh" install
  # Before there is a cluster: it would starve.
  [[ ${KEDA:-no} != yes ]] || "$deploy/keda.sh" install
  "$deploy/k8s.sh" start "$scratch/k8s"
  [[ ${KEDA:-no} != yes ]] || "$deploy/keda.sh" start "$scratch/k8s"
}

# servers SCRIPT…: of deploy/, each with its data in $scratch/SCRIPT.
servers() {
  step servers
  local server
  for server; do
    "$deploy/$server.sh" install
    "$deploy/$server.sh" start "$scratch/$server"
    set -a; eval "$("$deploy/$server.sh" env "$scratch/$server")"; set +a
  done
}

# image_in NAME:TAG: to where the cluster finds it.
image_in() {
  if [[ $images == localhost/caselock ]]; then
    podman save -q --format docker-archive -o "$scratch/image.tar" "localhost/caselock/$1"
    "$deploy/k8s.sh" load "$scratch/k8s" "$scratch/image.tar"
    rm -- "$scratch/image.tar"
  else
    podman push -q "localhost/caselock/$1" "$images/$1"
  fi
}

# programs: the images, where the cluster finds them, the load generator and the bureau's command.
programs() {
  step images
  BASES=${BASES-made} "$deploy/images/build.sh" test
  local image
  for image in gateway archiver media registry admin; do image_in "$image:test"; done
  step 'the load generator, and the bureau'"'"'s command'
  if [[ -z ${CASELOCK_PROGRAMS:-} ]]; then
    cargo build --locked -q -p caselock-loadtest -p caselock-uploader
    CASELOCK_PROGRAMS=${CARGO_TARGET_DIR:-target}/debug
  fi
}

# put KIND NAME FLAG…: a secret, anew where it is there.
put() { k create secret "$@" --dry-run=client -o yaml | k apply -f - >/dev/null; }

# secrets: a namespace that enforces restricted Pod Security, and in it what an installation refers to. Sets $node and $ca.
secrets() {
  step secrets
  node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  ca=$scratch/ca
  CASELOCK_CA_NAMES=DNS:caselock-gateway,DNS:caselock-registry,IP:$node "$deploy/dev-ca.sh" "$ca" demo 2>/dev/null
  kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
  put generic receipts --from-file="$ca/receipt-key.pem" --from-file="$ca/receipt-key.pub.pem"
  put generic bureaus --from-file=ca.crt="$ca/ca.pem"
  put tls server --cert="$ca/server.pem" --key="$ca/server.key"
  put generic bureau --from-file=ca.crt="$ca/ca.pem" --from-file=tls.crt="$ca/demo.pem" --from-file=tls.key="$ca/demo.key"
  put generic s3 --from-literal=access_key="${S3_ACCESS_KEY:-$CASELOCK_TEST_S3_ACCESS_KEY}" \
    --from-literal=secret_key="${S3_SECRET_KEY:-$CASELOCK_TEST_S3_SECRET_KEY}"
  put generic database --from-literal=url="$(database_url "$CASELOCK_TEST_POSTGRES")"
  # Of those that speak TLS: servers with CAs of their own.
  [[ ! -s $scratch/s3/ca/ca.pem ]] || put generic s3-ca --from-file=ca.crt="$scratch/s3/ca/ca.pem"
  [[ ! -s $scratch/postgres/ca/ca.pem ]] || put generic database-ca --from-file=ca.crt="$scratch/postgres/ca/ca.pem"
}

# database_url URL: as the registry asks there.
database_url() {
  local tls=
  [[ ! -s $scratch/postgres/ca/ca.pem ]] || tls='?sslmode=verify-full&sslrootcert=/etc/caselock/database-ca/ca.crt'
  printf '%s\n' "$1$tls"
}

# values: of an installation beside those servers, small enough for one node, with $ARCHIVERS archivers; by a certificate and a password of Kafka's
# (secrets kafka-ca, kafka-client, kafka-user) where there is a listener for them, and by TLS (secrets s3-ca, database-ca) where the store and the
# database speak it.
values() {
  local database_port=${CASELOCK_TEST_POSTGRES##*:} replicas=${CASELOCK_TEST_KAFKA_REPLICATION:-1} single=false secure='' store_ca='' database_ca=''
  [[ -z ${CASELOCK_TEST_KAFKA_SECURE:-} ]] ||
    secure=', tls: {enabled: true, ca: {name: kafka-ca}, clientSecret: {name: kafka-client}}, sasl: {enabled: true, username: caselock, password: {name: kafka-user}}'
  [[ ! -s $scratch/s3/ca/ca.pem ]] || store_ca=', ca: {name: s3-ca}'
  [[ ! -s $scratch/postgres/ca/ca.pem ]] || database_ca=', ca: {name: database-ca}'
  ((replicas > 1)) || single=true
  cat <<VALUES
image: {registry: $images, tag: test}
kafka: {brokers: "${CASELOCK_TEST_KAFKA_SECURE:-$CASELOCK_TEST_KAFKA}", singleNode: $single, partitions: 12$secure}
topics: {replicas: $replicas}
s3: {bucket: load, endpoint: "$CASELOCK_TEST_S3_ENDPOINT", credentials: {name: s3}$store_ca}
receipts: {signingKey: {name: receipts}}
tls: {clientCa: {name: bureaus}}
networkPolicy: {databasePort: ${database_port%%/*}}
gateway:
  tlsSecret: server
  service: {type: NodePort}
  resources: {requests: {cpu: 50m, memory: 256Mi}}
archiver: {replicas: ${ARCHIVERS:-1}, resources: {requests: {cpu: 50m, memory: 128Mi}}}
media: {resources: {requests: {cpu: 50m, memory: 128Mi, ephemeral-storage: 1Gi}}, scratch: {sizeLimit: 4Gi}}
registry: {tlsSecret: server, service: {type: NodePort}, database: {name: database$database_ca}, resources: {requests: {cpu: 50m, memory: 128Mi}}}
test: {bureauSecret: bureau, receiptKey: {name: receipts}}
VALUES
}

# load FOOTAGE NAME FLAG…: a run against the gateways, in the background, its report in $scratch/loads/NAME. Sets $load.
load() {
  local footage=$1 name=$2 port
  shift 2
  port=$(k get service caselock-gateway -o jsonpath='{.spec.ports[0].nodePort}')
  "$CASELOCK_PROGRAMS/caselock-loadtest" run "$footage" --name "$name" --out "$scratch/loads/$name" --server "https://$node:$port" --ca "$ca" \
    --receipt-key "$ca/receipt-key.pub.pem" "$@" >"$scratch/load.log" 2>&1 &
  load=$!
}

# end_all: of what was started in $scratch everything, and the folder.
end_all() {
  local server
  [[ -z ${load:-} ]] || kill "$load" 2>/dev/null || true
  [[ ! -d $scratch/k8s ]] || "$deploy/k8s.sh" stop "$scratch/k8s" || true
  for server in kafka kafka-cluster s3 s3-new postgres; do
    [[ ! -d $scratch/$server ]] || "$deploy/${server%-new}.sh" stop "$scratch/$server" || true
  done
  awk '{ print $2 }' /proc/mounts | grep -F -- "$scratch/" | sort -r | xargs -r -n1 umount -l || true
  rm -rf -- "$scratch"
}

# under_load WHAT: was done while the load ran.
under_load() { kill -0 "$load" 2>/dev/null || { tail -n 20 -- "$scratch/load.log" >&2; die "the load ended before $1: raise SECONDS_OF_LOAD"; }; }

# load_ends: everything that was sent is there, unaltered and locked.
load_ends() {
  wait "$load" || { tail -n 30 -- "$scratch/load.log" >&2; die "the load found something missing"; }
  load=
  tail -n 8 -- "$scratch/load.log"
}
rolled() { k rollout status "deployment/caselock-$1" --timeout=3m; }
