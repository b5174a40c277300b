#!/usr/bin/env bash
# Three of the real Apache Kafka (kafka.sh) as one cluster, on one machine, to lose one of them. Not for production.
#
#   kafka-cluster.sh install     once, as kafka.sh
#   kafka-cluster.sh start DIR   starts the three, DIR/1 to DIR/3, each a folder of kafka.sh's; those that run already stay
#   kafka-cluster.sh stop DIR    stops them
#   kafka-cluster.sh env DIR     prints CASELOCK_TEST_KAFKA=HOST:PORT,… and CASELOCK_TEST_KAFKA_REPLICATION=3
#
# One alone is stopped, killed and started again by kafka.sh with its own folder.
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

make() {
  local node voters=
  pick_ports KAFKA1 CONTROLLER1 KAFKA2 CONTROLLER2 KAFKA3 CONTROLLER3
  for node in 1 2 3; do voters+=${voters:+,}$node@127.0.0.1:$(port "CONTROLLER$node"); done
  [[ -s $dir/id ]] || head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | tr -d '=' >"$dir/id"
  for node in 1 2 3; do
    mkdir -p -- "$dir/$node"
    printf 'KAFKA=%s\nCONTROLLER=%s\n' "$(port "KAFKA$node")" "$(port "CONTROLLER$node")" >"$dir/$node/ports"
    cp -- "$dir/id" "$dir/$node/cluster-id"
    cat >"$dir/$node/cluster" <<EOT
node.id=$node
controller.quorum.voters=$voters
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
EOT
  done
}

# each ACTION: of all three at once, for none is ready before it has a majority.
each() {
  local node pids=() pid
  for node in 1 2 3; do
    "$here/kafka.sh" "$1" "$dir/$node" &
    pids+=("$!")
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

case "$#:${1:-}" in
  1:install) "$here/kafka.sh" install ;;
  2:start) dir=$(server_dir "$2"); mkdir -p -- "$dir"; make; each start ;;
  2:stop) dir=$(server_dir "$2"); each stop ;;
  2:env)
    dir=$(server_dir "$2")
    for node in 1 2 3; do brokers=${brokers:+$brokers,}$server_host:$(port "KAFKA$node"); done
    printf 'CASELOCK_TEST_KAFKA=%s\nCASELOCK_TEST_KAFKA_REPLICATION=3\n' "$brokers"
    ;;
  *) usage ;;
esac
