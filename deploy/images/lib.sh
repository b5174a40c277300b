# shellcheck shell=bash
# What the scripts for images share: an engine that works here. Sourced, never run.

# shellcheck source=deploy/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"

command -v podman >/dev/null || debian_packages podman runc

# What a build may have, where limits may not be raised.
limits=(--ulimit nofile=4096:4096 --ulimit nproc=4096:4096)

# Within containers and small virtual machines: no limits may be raised, no network and no cgroup be made. Whoever has set podman up goes by
# that.
if [[ ! -e /etc/containers/containers.conf && -z ${CONTAINERS_CONF:-} ]]; then
  mkdir -p -- "$(cache_dir)"
  CONTAINERS_CONF=$(cache_dir)/containers.conf
  printf '%s\n' '[containers]' 'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]' 'netns = "host"' \
    '[engine]' 'cgroup_manager = "cgroupfs"' 'runtime = "runc"' 'events_logger = "file"' >"$CONTAINERS_CONF"
  export CONTAINERS_CONF
fi
