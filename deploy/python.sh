#!/usr/bin/env bash
# A Python with stock gRPC, Kafka, CloudEvents and JSON Schema tools, for the tests that look at Caselock from outside.
# Usage: deploy/python.sh install    make it, unless it is there
#        deploy/python.sh path       print the interpreter's path
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"
dir=$(cache_dir)/python-4

case ${1:-} in
  install)
    hold_lock "$dir.lock"
    [[ ! -e $dir/complete ]] || exit 0
    python3 -c 'import venv, ensurepip' 2>/dev/null || debian_packages python3 python3-venv
    packages=('grpcio-tools==1.*' 'numpy>=1.26' 'cloudevents==1.*' 'jsonschema[format]==4.*' 'pyyaml==6.*'
      'confluent-kafka==2.*' 'chinesecalendar==1.11.*')
    say "going to install ${packages[*]} into $dir"
    rm -rf -- "$dir"
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
    touch -- "$dir/complete"
    ;;
  path) echo "$dir/bin/python" ;;
  *) die "usage: deploy/python.sh install|path" ;;
esac
