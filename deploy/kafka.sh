#!/usr/bin/env bash
# The real Apache Kafka 4.1.1, one node (KRaft), for tests and trials on one machine. Not for production.
#
#   kafka.sh install      once: its jars from Maven Central, with Java 17 and Maven from Debian where they are missing
#   kafka.sh start DIR    starts it in the background, data in DIR, and returns when it answers
#   kafka.sh stop DIR     stops it in order
#   kafka.sh kill DIR     kills it (SIGKILL), as a crash would
#   kafka.sh env DIR      prints CASELOCK_TEST_KAFKA=127.0.0.1:PORT
#   kafka.sh libs         prints the folder of its jars, Kafka's Java client among them
#
# A second start in the same DIR has the same address and data. The log is DIR/server.log. The jars are kept in
# ${CASELOCK_CACHE:-${XDG_CACHE_HOME:-~/.cache}/caselock}.

set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

version=4.1.1
home=$(cache_dir)/kafka-$version

has_java() {
  local v
  v=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.specification\.version = \([0-9]*\).*/\1/p')
  ((${v:-0} >= 17))
}

install() {
  local packages=() jre=openjdk-17-jre-headless
  hold_lock "$(cache_dir)/kafka.lock"
  if ! has_java; then
    apt-cache show "$jre" >/dev/null 2>&1 || jre=default-jre-headless
    packages+=("$jre")
  fi
  if [[ -d $home/libs ]]; then
    say "Kafka $version is already there: $home"
  else
    command -v mvn >/dev/null || packages+=(maven)
    say "going to install Kafka $version (about 55 MB of jars from Maven Central) into $home"
  fi
  ((${#packages[@]} == 0)) || debian_packages "${packages[@]}"
  has_java || die "java on the PATH is older than 17"
  [[ -d $home/libs ]] || download
}

download() {
  temp=$(mktemp -d -- "$home.XXXXXX")
  trap 'rm -rf -- "$temp"' EXIT
  cat >"$temp/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>caselock.test</groupId>
  <artifactId>kafka</artifactId>
  <version>$version</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version>
  </plugin></plugins></build>
</project>
POM
  mvn -B -q --strict-checksums -f "$temp/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$temp/libs" >&2
  chmod 755 "$temp"
  mv -T -- "$temp" "$home"
  say "installed Kafka $version"
}

mark_of() { printf '%s\n' "$dir/server.properties"; }

start() {
  [[ -d $home/libs ]] || die "Kafka is not installed: run '$0 install' first"
  mkdir -p -- "$dir"
  pick_ports KAFKA CONTROLLER
  settings >"$dir/server.properties"
  if [[ ! -f $dir/data/meta.properties ]]; then
    local id
    [[ ! -s $dir/cluster-id ]] || id=$(<"$dir/cluster-id")
    : "${id:=$(head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | tr -d '=')}"
    java -Xmx256m -cp "$home/libs/*" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" \
      >"$dir/format.log" 2>&1 || { cat -- "$dir/format.log" >&2; die "could not format $dir/data"; }
  fi
  launch java -Xmx1g -Xms256m -XX:+ExitOnOutOfMemoryError -XX:ErrorFile="$dir/crash-%p.log" -Djava.awt.headless=true \
    -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS" \
    -cp "$home/libs/*" kafka.Kafka "$dir/server.properties"
  say "Kafka $version answers on 127.0.0.1:$(port KAFKA), data in $dir"
}

# ready FROM: has it said that it started, in the log from byte FROM on, and does it answer an ApiVersions request?
ready() {
  grep -q 'Kafka Server started' <(tail -c "+$1" -- "$dir/server.log") || return 1
  local answer
  # Request: length 10, API key 18, version 0, correlation id 1, no client id. Answer: length, correlation id, error 0.
  answer=$(ask "$(port KAFKA)" '\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff' 10 | od -An -v -tx1 | tr -d ' \n') || return 1
  [[ ${answer:8} == 000000010000 ]]
}

settings() {
  cat <<EOT
# Written anew by kafka.sh at every start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(port CONTROLLER)
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$listen_host:$(port KAFKA),CONTROLLER://127.0.0.1:$(port CONTROLLER)
advertised.listeners=PLAINTEXT://$server_host:$(port KAFKA)
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false

# Records go up to 17 MiB.
message.max.bytes=18874368
replica.fetch.max.bytes=18874368
socket.request.max.bytes=104857600

# One node.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# A node that was killed may register again only when its old session is over (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# So that tests see rebalances, deletion and compaction soon.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=1000
log.segment.delete.delay.ms=1000
EOT
  # One of several (kafka-cluster.sh): what it says comes last, and counts.
  [[ ! -s $dir/cluster ]] || cat -- "$dir/cluster"
}

environment() {
  local p
  p=$(port KAFKA)
  echo "CASELOCK_TEST_KAFKA=$server_host:$p"
}

case "$#:${1:-}" in
  1:libs) printf '%s\n' "$home/libs" ;;
  *) life_cycle "$@" ;;
esac
