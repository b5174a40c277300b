#!/usr/bin/env bash
# The chart and the Dockerfiles without a cluster: lint, unit tests, every object against its schema, the README as it must be, settings that the
# services take; no value missed that is taken away (deploy/python.sh); the compose file read; every alert fired and cleared, the dashboards as they are made. The programs must be built (cargo build); deploy/k8s-test.sh installs it on a real Kubernetes.
# Usage: deploy/chart-test.sh
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
cd -- "$here/.."
"$here/chart-tools.sh" install
"$here/python.sh" install
PATH=$("$here/chart-tools.sh" path):$PATH
chart=helm/caselock
programs=${CASELOCK_PROGRAMS:-${CARGO_TARGET_DIR:-target}/debug}
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

hadolint deploy/images/*.Dockerfile
# The compose file, as configuration: an engine is not needed for that.
podman-compose -f deploy/compose.yaml config >/dev/null
promtool check rules --lint=all deploy/prometheus/caselock.rules.yaml
promtool test rules deploy/prometheus/caselock.tests.yaml
deploy/grafana/make.py --check
helm-unittest "$chart"
for values in "$chart"/ci/*-values.yaml; do
  say "$values"
  helm lint --quiet --strict "$chart" -f "$values"
  helm template caselock "$chart" --namespace ingest -f "$values" >"$scratch/all.yaml"
  kubeconform -strict -summary -schema-location 'helm/schemas/{{.ResourceKind}}{{.KindSuffix}}.json' "$scratch/all.yaml"
  for service in gateway archiver media registry; do
    # Its settings, out of the ConfigMap.
    { helm template caselock "$chart" --namespace ingest -f "$values" --show-only "templates/$service.yaml" 2>/dev/null || true; } |
      awk '/^---/ { on = 0 } on { print substr($0, 5) } /^  settings.toml: \|/ { on = 1 }' >"$scratch/settings.toml"
    [[ -s $scratch/settings.toml ]] || { say "$service is not part of it"; continue; }
    "$programs/caselock-$service" --config "$scratch/settings.toml" --dump-config >/dev/null
  done
done
# What the schema takes as settings is what the services take, but for what the chart sets itself.
for service in gateway archiver media registry; do
  "$programs/caselock-$service" --config-schema >"$scratch/$service.json"
done
cp -- "$chart/values.schema.json" "$scratch/values.schema.json"
python3 helm/schemas/settings.py "$scratch/values.schema.json" "$scratch"
cmp -- "$chart/values.schema.json" "$scratch/values.schema.json" || { cp -- "$scratch/values.schema.json" "$chart/"; die "values.schema.json was not what helm/schemas/settings.py makes"; }
cp -- "$chart/README.md" "$scratch/README.md"
helm-docs -s file -l error -c "$chart"
cmp -- "$chart/README.md" "$scratch/README.md" || { cp -- "$scratch/README.md" "$chart/README.md"; die "README.md is not what helm-docs -s file makes"; }
# Wrong values are refused by name.
refused() {
  local said
  said=$(helm template "${3:-caselock}" "$chart" -f "$chart/ci/minimal-values.yaml" --set "$1" 2>&1) && die "$1 was taken"
  [[ $said == *"$2"* ]] || die "$1 was refused without saying '$2': $said"
}
refused gateway.replica=3 "at '/gateway': additional properties 'replica' not allowed"
refused kafka.brokers=nowhere "at '/kafka/brokers'"
refused archiver.autoscaling.mode=often "at '/archiver/autoscaling/mode': value must be one of 'none', 'keda', 'hpa'"
refused gateway.settings.memory_budgett=1 "additional properties 'memory_budgett' not allowed"
refused archiver.settings.window=abc "at '/archiver/settings/window': got string, want integer"
refused archiver.settings.retention.foo=1 "additional properties 'foo' not allowed"
refused fullnameOverride=My_Name "at '/fullnameOverride'"
refused s3.prefix=county "at '/s3/prefix'"
refused kafka.properties.sasl\\.password=hunter2 "does not match pattern '^file:/'"
refused "kafka.properties.ssl\\.key\\.pem=-----BEGIN" "does not match pattern '^file:/'"
refused commonLabels.app\\.kubernetes\\.io/name=x "at '/commonLabels/app.kubernetes.io~1name'"
refused gateway.containerSpec.env=x "at '/gateway/containerSpec/env'"
refused 'gateway.hostnames[0]=in.example:7443' "at '/gateway/hostnames/0'"
refused 'gateway.extraEnv[0].nam=A' "at '/gateway/extraEnv/0': missing property 'name'"
refused tls.certManager.issuerRef.kind=Isuer "at '/tls/certManager/issuerRef/kind'"
refused s3.bucket=null "at '/s3': missing property 'bucket'"
refused nameOverride= "fullnameOverride: the release's name, ingest.prod" ingest.prod
# A value that is taken away is not missed, or named.
"$("$here/python.sh" path)" helm/schemas/nulls.py "$chart/ci/production-values.yaml"
say 'all as it must be'
