#!/usr/bin/env bash
# Three of the real Apache Kafka (kafka.sh) as one cluster, on one machine, to lose one of them. Not for production.
#
#   kafka-cluster.sh install     once, as kafka.sh
#   kafka-cluster.sh start DIR   starts the three, DIR/1 to DIR/3, each a folder of kafka.sh's; those that run already stay
#   kafka-cluster.sh stop DIR    stops them
#   kafka-cluster.sh env DIR     prints CASELOCK_TEST_KAFKA=HOST:PORT,…, CASELOCK_TEST_KAFKA_SECURE, the same for clients with a certificate
#                                and a password (SCRAM-SHA-512), and CASELOCK_TEST_KAFKA_REPLICATION=3
#
# The brokers' certificate and one for a client (client.pem, client.key) are of the CA in DIR/ca. Clients' certificates are under the CAs in
# DIR/clients.pem, as it is when a broker starts. A user is made by kafka-configs.sh.
#
# One alone is stopped, killed and started again by kafka.sh with its own folder.
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

make() {
  local node voters=
  pick_ports KAFKA1 CONTROLLER1 SECURE1 KAFKA2 CONTROLLER2 SECURE2 KAFKA3 CONTROLLER3 SECURE3
  CASELOCK_CA_NAMES=IP:$server_host "$here/dev-ca.sh" "$dir/ca" client 2>/dev/null
  [[ -s $dir/clients.pem ]] || cp -- "$dir/ca/ca.pem" "$dir/clients.pem"
  (umask 077 && cat -- "$dir/ca/server.key" "$dir/ca/server.pem" >"$dir/broker.pem")
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

listeners=PLAINTEXT://$listen_host:$(port "KAFKA$node"),SECURE://$listen_host:$(port "SECURE$node"),CONTROLLER://127.0.0.1:$(port "CONTROLLER$node")
advertised.listeners=PLAINTEXT://$server_host:$(port "KAFKA$node"),SECURE://$server_host:$(port "SECURE$node")
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=$dir/broker.pem
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.location=$dir/clients.pem
listener.name.secure.ssl.client.auth=required
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
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
    all() { printf '%s,' "$server_host:$(port "$1"1)" "$server_host:$(port "$1"2)"; printf '%s\n' "$server_host:$(port "$1"3)"; }
    printf 'CASELOCK_TEST_KAFKA=%s\nCASELOCK_TEST_KAFKA_SECURE=%s\nCASELOCK_TEST_KAFKA_REPLICATION=3\n' "$(all KAFKA)" "$(all SECURE)"
    ;;
  *) usage ;;
esac
