#!/usr/bin/env bash
# The chart on a real Kubernetes: installed from images that are built here, in a namespace that enforces restricted Pod Security, against a real
# Kafka, S3 server and PostgreSQL on this machine; tried, loaded, upgraded under load, with pods killed, rolled back; archivers scaled by KEDA on real
# lag, up and down; removed.
#
# The cluster of the current kubeconfig is used if there is one that answers, with CASELOCK_SERVER_HOST, an address of this machine that
# its pods reach, and CASELOCK_IMAGES, a registry to push to that it pulls from. Otherwise one is started here (k8s.sh: as root, on Debian).
# Usage: deploy/k8s-test.sh
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/images/lib.sh
source "$here/images/lib.sh"
cd -- "$here/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$("$here/chart-tools.sh" path):$("$here/k8s.sh" path):$PATH"
step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS" >&2; }

"$here/chart-tools.sh" install
scratch=$(mktemp -d)
chmod 711 -- "$scratch"
namespace=caselock-test-$RANDOM
stop() {
  local result=$? server
  trap - EXIT
  ((result == 0)) || failed || true
  [[ ! -s $scratch/s3/pid ]] || kill -CONT "$(<"$scratch/s3/pid")" 2>/dev/null || true
  [[ -z ${load:-} ]] || kill "$load" 2>/dev/null || true
  kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1 || true
  [[ ! -d $scratch/k8s ]] || "$here/k8s.sh" stop "$scratch/k8s" || true
  for server in kafka s3 postgres; do
    [[ ! -d $scratch/$server ]] || "$here/$server.sh" stop "$scratch/$server" || true
  done
  rm -rf -- "$scratch"
  exit "$result"
}
# failed: what one wants to see of it.
failed() {
  kubectl -n "$namespace" get pods -o wide
  kubectl -n "$namespace" get events --sort-by=.lastTimestamp | tail -n 25
  local pod
  for pod in $(kubectl -n "$namespace" get pods -o name); do
    echo "--- $pod"
    kubectl -n "$namespace" logs "$pod" --all-containers --tail=15
    kubectl -n "$namespace" logs "$pod" --all-containers --tail=15 --previous 2>/dev/null
  done
} >&2
trap stop EXIT
trap 'exit 130' INT TERM HUP

step cluster
registry=localhost/caselock
if kubectl get --raw /readyz >/dev/null 2>&1; then
  [[ -n ${CASELOCK_SERVER_HOST:-} && -n ${CASELOCK_IMAGES:-} ]] || die "set CASELOCK_SERVER_HOST and CASELOCK_IMAGES for a cluster of your own"
  registry=$CASELOCK_IMAGES
else
  export KUBECONFIG=$scratch/k8s/kubeconfig CASELOCK_SERVER_HOST=10.244.0.1
  "$here/k8s.sh" install
  # Before there is a cluster: it would starve.
  "$here/keda.sh" install
  "$here/k8s.sh" start "$scratch/k8s"
  "$here/keda.sh" start "$scratch/k8s"
fi

step servers
for server in kafka s3 postgres; do
  "$here/$server.sh" install
  "$here/$server.sh" start "$scratch/$server"
  set -a; eval "$("$here/$server.sh" env "$scratch/$server")"; set +a
done

step images
BASES=${BASES-made} "$here/images/build.sh" test
for image in gateway archiver media registry admin; do
  if [[ $registry == localhost/caselock ]]; then
    podman save -q --format docker-archive -o "$scratch/image.tar" "localhost/caselock/$image:test"
    "$here/k8s.sh" load "$scratch/k8s" "$scratch/image.tar"
    rm -- "$scratch/image.tar"
  else
    podman push -q "localhost/caselock/$image:test" "$registry/$image:test"
  fi
done

step 'the load generator'
if [[ -z ${CASELOCK_PROGRAMS:-} ]]; then
  cargo build --locked -q -p caselock-loadtest
  CASELOCK_PROGRAMS=${CARGO_TARGET_DIR:-target}/debug
fi

step secrets
node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
CASELOCK_CA_NAMES=DNS:caselock-gateway,DNS:caselock-registry,IP:$node "$here/dev-ca.sh" "$scratch/ca" demo 2>/dev/null
kubectl create namespace "$namespace" >/dev/null
kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
k() { kubectl -n "$namespace" "$@"; }
ca=$scratch/ca
{
  k create secret generic receipts --from-file="$ca/receipt-key.pem" --from-file="$ca/receipt-key.pub.pem"
  k create secret generic bureaus --from-file=ca.crt="$ca/ca.pem"
  k create secret tls server --cert="$ca/server.pem" --key="$ca/server.key"
  k create secret generic bureau --from-file=ca.crt="$ca/ca.pem" --from-file=tls.crt="$ca/demo.pem" --from-file=tls.key="$ca/demo.key"
  k create secret generic s3 --from-literal=access_key="$CASELOCK_TEST_S3_ACCESS_KEY" --from-literal=secret_key="$CASELOCK_TEST_S3_SECRET_KEY"
  k create secret generic database --from-literal=url="$CASELOCK_TEST_POSTGRES"
} >/dev/null
before=$(k get all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,jobs -o name | sort)
database_port=${CASELOCK_TEST_POSTGRES##*:}
database_port=${database_port%%/*}
cat >"$scratch/values.yaml" <<VALUES
image: {registry: $registry, tag: test}
kafka: {brokers: "$CASELOCK_TEST_KAFKA", singleNode: true, partitions: 12}
topics: {replicas: 1}
s3: {bucket: load, endpoint: "$CASELOCK_TEST_S3_ENDPOINT", credentials: {name: s3}}
receipts: {signingKey: {name: receipts}}
tls: {clientCa: {name: bureaus}}
networkPolicy: {databasePort: $database_port}
gateway:
  tlsSecret: server
  service: {type: NodePort}
  resources: {requests: {cpu: 50m, memory: 256Mi}}
archiver: {replicas: 1, resources: {requests: {cpu: 50m, memory: 128Mi}}}
media: {resources: {requests: {cpu: 50m, memory: 128Mi, ephemeral-storage: 1Gi}}, scratch: {sizeLimit: 4Gi}}
registry: {tlsSecret: server, database: {name: database}, resources: {requests: {cpu: 50m, memory: 128Mi}}}
test: {bureauSecret: bureau, receiptKey: {name: receipts}}
VALUES
export CASELOCK_LOAD_PARTITIONS=12
# The topics are the chart's to make: only the bucket is made here.
"$CASELOCK_PROGRAMS/caselock-loadtest" prepare --topic-prefix unused.

step 'helm install'
helm -n "$namespace" install caselock helm/caselock -f "$scratch/values.yaml" --wait --timeout 5m
step 'helm test'
helm -n "$namespace" test caselock --logs --timeout 3m

step 'roll-out, upgrade and deaths under load'
port=$(k get service caselock-gateway -o jsonpath='{.spec.ports[0].nodePort}')
"$CASELOCK_PROGRAMS/caselock-loadtest" footage "$scratch/footage" --count 12 --mix >/dev/null
"$CASELOCK_PROGRAMS/caselock-loadtest" run "$scratch/footage" --name k8s --out "$scratch/load" --server "https://$node:$port" --ca "$ca" \
  --receipt-key "$ca/receipt-key.pub.pem" --files 2 --rate 0.3 --for "${SECONDS_OF_LOAD:-180}" --cases >"$scratch/load.log" 2>&1 &
load=$!
# under_load: what was just done was done while the load ran.
under_load() { kill -0 "$load" 2>/dev/null || { tail -n 20 -- "$scratch/load.log" >&2; die "the load ended before $1: raise SECONDS_OF_LOAD"; }; }
rolled() { k rollout status "deployment/caselock-$1" --timeout=3m; }
# Gateways one by one, by a setting; everything else by a new image's name would do the same.
helm -n "$namespace" upgrade caselock helm/caselock -f "$scratch/values.yaml" --set telemetry.filter=info\\,caselock_gateway=debug --wait --timeout 5m >/dev/null
for part in gateway archiver media registry; do rolled "$part"; done
under_load 'the upgrade was done'
for part in gateway archiver media registry; do
  # The newest: an older one may be on its way out.
  pod=$(k get pods -l "app.kubernetes.io/component=$part" --sort-by=.metadata.creationTimestamp -o name | tail -n 1)
  say "killing $pod"
  k delete "$pod" --force --grace-period=0 >/dev/null 2>&1
  rolled "$part"
  under_load "$part was back"
done
step 'helm rollback'
helm -n "$namespace" rollback caselock 1 --wait --timeout 5m
for part in gateway archiver media registry; do rolled "$part"; done
under_load 'the rollback was done'
step 'the load ends: nothing may be missing'
wait "$load" || { tail -n 30 -- "$scratch/load.log" >&2; die "the load found something missing"; }
tail -n 8 -- "$scratch/load.log"

step 'archivers by lag: 1, 4, 2'
if ! kubectl get crd scaledobjects.keda.sh >/dev/null 2>&1; then
  say 'there is no KEDA in this cluster: left out'
else
  # store_stands, store_goes: what holds the lag where it is. The log goes on taking footage.
  store_stands() { kill -STOP "$(<"$scratch/s3/pid")"; }
  store_goes() { kill -CONT "$(<"$scratch/s3/pid")"; }
  # replicas N SECONDS [ready]: waits until so many archivers are wanted, or there.
  replicas() {
    local deadline=$((SECONDS + $2)) field=spec.replicas
    [[ -z ${3:-} ]] || field=status.readyReplicas
    until [[ $(k get deployment caselock-archiver -o "jsonpath={.$field}") == "$1" ]]; do
      ((SECONDS < deadline)) || { k describe hpa >&2; k describe scaledobject >&2; die "there are never $1 archivers"; }
      sleep 1
    done
    say "$1 archivers${3:+ ready} (${SECONDS}s)"
  }
  # send NAME COUNT: recordings of eight segments, in the background.
  send() {
    "$CASELOCK_PROGRAMS/caselock-loadtest" footage "$scratch/$1" --count "$2" --size 64M >/dev/null
    "$CASELOCK_PROGRAMS/caselock-loadtest" run "$scratch/$1" --name "$1" --out "$scratch/$1-run" --server "https://$node:$port" --ca "$ca" \
      --receipt-key "$ca/receipt-key.pub.pem" --parallel "$2" >"$scratch/load.log" 2>&1 &
    load=$!
  }
  helm -n "$namespace" upgrade caselock helm/caselock -f "$scratch/values.yaml" --wait --timeout 5m --set \
    archiver.autoscaling.mode=keda,archiver.autoscaling.maxReplicas=4,archiver.autoscaling.lagThreshold=4,archiver.autoscaling.pollingInterval=5,archiver.autoscaling.cooldownPeriod=30 >/dev/null
  k wait --for=condition=Ready scaledobject/caselock-archiver --timeout=2m
  replicas 1 120
  store_stands
  send many 4
  replicas 4 180
  store_goes
  replicas 4 180 ready
  wait "$load" || { tail -n 30 -- "$scratch/load.log" >&2; die "the load found something missing"; }
  # Eight segments that wait are work for two.
  store_stands
  send few 1
  replicas 2 300
  # That it stays so: on its way down to one it would pass through two as well.
  sleep 80
  replicas 2 1
  store_goes
  wait "$load" || { tail -n 30 -- "$scratch/load.log" >&2; die "the load found something missing"; }
  replicas 1 300
fi

step 'helm uninstall'
helm -n "$namespace" uninstall caselock --wait --timeout 3m
deadline=$((SECONDS + 60))
until after=$(k get all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,jobs -o name | sort) && [[ $after == "$before" ]]; do
  ((SECONDS < deadline)) || { diff <(echo "$before") <(echo "$after") >&2 || true; die "something was left"; }
  sleep 1
done
step 'all done'
