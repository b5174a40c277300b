#!/usr/bin/env bash
# KEDA for the cluster of k8s.sh: its operator and metrics server, built from their Go module (some seven minutes, once), in one image.
#
#   keda.sh install      builds the image, into the cache
#   keda.sh start DIR    loads it into the cluster that k8s.sh started in DIR, and installs KEDA there
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/images/lib.sh
source "$here/images/lib.sh"
version=2.21.0
image=localhost/caselock/keda:$version
tar=$(cache_dir)/keda-$version.tar

module() { go mod download -json "github.com/kedacore/keda/v2@v$version" | sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p"; }

install() {
  hold_lock "$tar.lock"
  [[ ! -e $tar ]] || { say "KEDA is already there: $tar"; return; }
  # Which brings Go, where it is missing.
  "$here/s3.sh" install
  say "building KEDA $version (some seven minutes)"
  local source
  source=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf -- '$source'" EXIT
  cd -- "$source"
  # Its module has replace lines, so it can't be installed by its version: a module of ours requires it.
  local module
  module=$(module GoMod)
  { printf 'module caselock/keda\ngo 1.25.0\nrequire github.com/kedacore/keda/v2 v%s\n' "$version"; grep -E '^replace ' "$module" || true; } >go.mod
  go build -mod=mod -ldflags '-s -w' -o out/ github.com/kedacore/keda/v2/cmd/{operator,adapter}
  "$here/images/bases.sh"
  printf 'FROM localhost/caselock/debian\nCOPY out/operator /keda\nCOPY out/adapter /keda-adapter\nUSER 65532\n' >Dockerfile
  podman build -q "${limits[@]}" -t "$image" . >/dev/null
  # What a run left that was broken off.
  rm -f -- "$tar.new"
  podman save -q --format docker-archive -o "$tar.new" "$image"
  mv -- "$tar.new" "$tar"
}

start() {
  install
  PATH=$("$here/k8s.sh" path):$PATH
  export KUBECONFIG=$dir/kubeconfig
  "$here/k8s.sh" load "$dir" "$tar"
  rm -rf -- "$dir/keda"
  cp -r -- "$(module Dir)/config" "$dir/keda"
  chmod -R u+w -- "$dir/keda"
  kubectl kustomize "$dir/keda/minimal" |
    sed "s#ghcr.io/kedacore/keda[a-z-]*:[a-z0-9.]*#$image#; s#imagePullPolicy: Always#imagePullPolicy: IfNotPresent#" |
    kubectl apply --server-side -f - >/dev/null
  kubectl -n keda rollout status deployment/keda-operator deployment/keda-metrics-apiserver --timeout=180s
}

case "$#:${1:-}" in
  1:install) install ;;
  2:start) dir=$(server_dir "$2"); start ;;
  *) usage ;;
esac
