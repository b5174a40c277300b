#!/usr/bin/env bash
# The chart on a real Kubernetes: installed from images that are built here, in a namespace that enforces restricted Pod Security, against a real
# Kafka, S3 server and PostgreSQL on this machine; tried, loaded, upgraded under load, with pods killed, rolled back; archivers scaled by KEDA on real
# lag, up and down; removed.
#
# The cluster of the current kubeconfig is used if there is one that answers, with CASELOCK_SERVER_HOST, an address of this machine that
# its pods reach, and CASELOCK_IMAGES, a registry to push to that it pulls from. Otherwise one is started here (k8s.sh: as root, on Debian).
# Usage: deploy/k8s-test.sh
set -Eeuo pipefail
# shellcheck source=deploy/k8s-lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/k8s-lib.sh"
cd -- "$deploy/.."

scratch=$(mktemp -d)
chmod 711 -- "$scratch"
namespace=caselock-test-$RANDOM
stop() {
  local result=$?
  trap - EXIT
  ((result == 0)) || failed || true
  [[ ! -s $scratch/s3/pid ]] || kill -CONT "$(<"$scratch/s3/pid")" 2>/dev/null || true
  kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1 || true
  end_all
  exit "$result"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

KEDA=yes cluster
servers kafka s3 postgres
programs
secrets
kinds=all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,ingresses
! kubectl get crd scaledobjects.keda.sh >/dev/null 2>&1 || kinds+=,scaledobjects.keda.sh,triggerauthentications.keda.sh
before=$(k get "$kinds" -o name | sort)
values >"$scratch/values.yaml"
export CASELOCK_LOAD_PARTITIONS=12
# The topics are the chart's to make: only the bucket is made here.
"$CASELOCK_PROGRAMS/caselock-loadtest" prepare --topic-prefix unused.

step 'helm install'
helm -n "$namespace" install caselock helm/caselock -f "$scratch/values.yaml" --wait --timeout 5m
step 'helm test'
helm -n "$namespace" test caselock --logs --timeout 3m

step 'roll-out, upgrade and deaths under load'
"$CASELOCK_PROGRAMS/caselock-loadtest" footage "$scratch/footage" --count 12 --mix >/dev/null
load "$scratch/footage" k8s --files 2 --rate 0.3 --for "${SECONDS_OF_LOAD:-180}" --cases
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
load_ends

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
    load "$scratch/$1" "$1-run" --parallel "$2"
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
  load_ends
  # Eight segments that wait are work for two.
  store_stands
  send few 1
  replicas 2 300
  # That it stays so: on its way down to one it would pass through two as well.
  sleep 80
  replicas 2 1
  store_goes
  load_ends
  replicas 1 300
fi

step 'helm uninstall'
helm -n "$namespace" uninstall caselock --wait --timeout 3m
deadline=$((SECONDS + 60))
until after=$(k get "$kinds" -o name | sort) && [[ $after == "$before" ]]; do
  ((SECONDS < deadline)) || { diff <(echo "$before") <(echo "$after") >&2 || true; die "something was left"; }
  sleep 1
done
step 'all done'
