#!/usr/bin/env bash
# A real Kubernetes of one node, or two, for tests, on a Debian machine without Docker, as root: control plane, kubelet, kube-proxy and CoreDNS built
# from their Go modules, containerd, runc and etcd from Debian.
#
#   k8s.sh install      builds what is missing (some ten minutes, once), into the cache
#   k8s.sh start DIR    starts it, with everything it writes in DIR; DIR/kubeconfig reaches it
#   k8s.sh grow DIR     adds a second node
#   k8s.sh load DIR TAR loads an image (podman save --format docker-archive)
#   k8s.sh path         prints the folder of its programs, kubectl among them
#   k8s.sh stop DIR     ends it, pods as well, and removes DIR
#
# Pods reach this machine as host.lab (10.244.0.1). There are Services, DNS, roll-outs, probes, Jobs and restricted Pod Security.
# There are no load balancers, volumes beyond emptyDir, hostPath and ConfigMap, metrics of pods; network policies are taken and not enforced.
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/images/lib.sh
source "$here/images/lib.sh"
version=1.34.2
host=10.244.0.1
home=$(cache_dir)/k8s-$version
bin=$home/bin

install() {
  local packages=(containerd runc etcd-server containernetworking-plugins conntrack nftables iproute2 debootstrap podman) package missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]})); then
    debian_packages "${missing[@]}"
    # Debian starts what it installs.
    for package in containerd etcd; do
      [[ ! -d /run/systemd/system || " ${missing[*]} " != *" $package"* ]] || systemctl disable -q --now "$package" 2>/dev/null || true
    done
  fi
  hold_lock "$home.lock"
  mkdir -p -- "$bin"
  # Which brings Go, where it is missing.
  "$here/s3.sh" install
  [[ -x $bin/coredns ]] || { say "building CoreDNS"; GOBIN=$bin go install github.com/coredns/coredns@v1.15.0; }
  local parts=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl) part
  for part in "${parts[@]}"; do
    [[ -x $bin/$part ]] && continue
    say "building Kubernetes $version (some ten minutes)"
    kubernetes "${parts[@]}"
    break
  done
}

# kubernetes PROGRAM…: its module has replace lines, so it can't be installed by its version: a module of ours requires it.
kubernetes() {
  local source=$home/source module
  rm -rf -- "$source"
  mkdir -p -- "$source"
  cd -- "$source"
  module=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  {
    printf 'module caselock/k8s\ngo 1.24.0\nrequire k8s.io/kubernetes v%s\nreplace (\n' "$version"
    sed -n '/^replace (/,/^)/p' "$module" | awk -v "version=v0.${version#1.}" '/=>/ { print $1 " => " $1 " " version }'
    echo ')'
  } >go.mod
  go build -mod=mod -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" -o "$bin/" "${@/#/k8s.io/kubernetes/cmd/}"
  rm -rf -- "$source"
}

# part NAME COMMAND…: in the background, its log in NAME.log.
part() {
  local name=$1
  shift
  setsid nohup "$@" >"$dir/$name.log" 2>&1 </dev/null 9>&- &
  echo "$!" >"$dir/$name.pid"
}

# until WHAT COMMAND…: at most a minute.
until_true() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what did not come up: see the logs in $dir"
    sleep 0.2
  done
}

start() {
  install
  [[ ! -e $dir/kubeconfig && ! -e /run/caselock-k8s ]] || die "one is there already: $dir, /run/caselock-k8s"
  ! ip link show cni0 >/dev/null 2>&1 || die "this machine has a pod network already (cni0): another Kubernetes?"
  ! answers 22379 && ! answers 22380 || die "something answers where etcd would (22379, 22380)"
  mkdir -p -- "$dir" /run/caselock-k8s
  cd -- "$dir"
  bridge 1
  sysctl -qw net.ipv4.ip_forward=1
  local token
  token=$(openssl rand -hex 16)
  (umask 077; echo "$token,admin,1,\"system:masters\"" >tokens.csv; openssl genrsa -out sa.key 2048 2>/dev/null)
  # Aggregated APIs (KEDA's metrics) know the API server by a CA of its own.
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=front-proxy-ca -keyout front-ca.key -out front-ca.crt 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj /CN=front-proxy -keyout front.key -out front.csr 2>/dev/null
  openssl x509 -req -in front.csr -CA front-ca.crt -CAkey front-ca.key -CAcreateserial -days 30 -out front.crt 2>/dev/null
  part etcd etcd --data-dir etcd --listen-client-urls http://127.0.0.1:22379 --advertise-client-urls http://127.0.0.1:22379 \
    --listen-peer-urls http://127.0.0.1:22380
  until_true etcd curl -sf http://127.0.0.1:22379/health
  part apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:22379 --service-account-issuer=https://k8s.lab \
    --service-account-key-file=sa.key --service-account-signing-key-file=sa.key --token-auth-file=tokens.csv \
    --requestheader-client-ca-file=front-ca.crt --requestheader-allowed-names=front-proxy --proxy-client-cert-file=front.crt \
    --proxy-client-key-file=front.key --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --enable-aggregator-routing=true --authorization-mode=Node,RBAC \
    --kubelet-preferred-address-types=InternalIP --enable-admission-plugins=NodeRestriction --allow-privileged=true --cert-dir=certs \
    --bind-address="$host" --secure-port=16443 --service-cluster-ip-range=10.96.0.0/16
  cat >kubeconfig <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$host:16443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
CONFIG
  chmod 600 kubeconfig
  export KUBECONFIG=$dir/kubeconfig
  until_true 'the API server' "$bin/kubectl" get --raw /readyz
  part controllers "$bin/kube-controller-manager" --kubeconfig=kubeconfig --service-account-private-key-file=sa.key \
    --root-ca-file=certs/apiserver.crt --use-service-account-credentials=true --leader-elect=false
  part scheduler "$bin/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false
  runtime 1
  cat >Corefile <<CONFIG
.:53 {
  bind $host
  hosts {
    $host host.lab
    fallthrough
  }
  kubernetes cluster.local in-addr.arpa {
    endpoint https://$host:16443
    kubeconfig $dir/kubeconfig test
  }
}
CONFIG
  part coredns "$bin/coredns" -conf Corefile
  part proxy "$bin/kube-proxy" --kubeconfig=kubeconfig --proxy-mode=nftables --hostname-override=node1 --cluster-cidr=10.244.0.0/16 \
    --conntrack-max-per-core=0 --metrics-bind-address=127.0.0.1:20249 --healthz-bind-address=127.0.0.1:20256
  # What keeps a pod's namespaces.
  "$here/images/bases.sh"
  printf 'FROM localhost/caselock/debian\nCMD ["/bin/sleep", "infinity"]\n' | podman build -q "${limits[@]}" -t localhost/caselock/pause - >/dev/null
  podman save -q --format docker-archive -o pause.tar localhost/caselock/pause:latest
  load "$dir/pause.tar"
  kubelet 1
  say "Kubernetes $version is ready: KUBECONFIG=$dir/kubeconfig"
}

# A node is its containerd, its kubelet and its pods' bridge: the first has 10.244.0.0/24, and this machine's own address on it, $host, is the node's as well;
# the second has 10.244.1.0/24.
socket_of() { printf '/run/caselock-k8s/containerd%s.sock\n' "$1"; }
address_of() { printf '10.244.%s.1\n' "$(($1 - 1))"; }

bridge() {
  # With an address of its own: else it has the lowest of its pods', another when that one goes, and the others reach nobody until they ask again.
  ip link add "cni$(($1 - 1))" address "02:ca:5e:10:c4:0$1" type bridge
  ip addr replace "$(address_of "$1")/24" dev "cni$(($1 - 1))"
  ip link set "cni$(($1 - 1))" up
}

runtime() {
  local subnet
  subnet=$(address_of "$1")
  mkdir -p -- "cni$1"
  cat >"cni$1/10-bridge.conflist" <<CONFIG
{"cniVersion": "0.4.0", "name": "pods$1", "plugins": [
  {"type": "bridge", "bridge": "cni$(($1 - 1))", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
   "ranges": [[{"subnet": "${subnet%.1}.0/24", "rangeStart": "${subnet%.1}.10"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$dir/ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CONFIG
  cat >"containerd$1.toml" <<CONFIG
version = 2
root = "$dir/containerd$1"
state = "/run/caselock-k8s/state$1"
[grpc]
  address = "$(socket_of "$1")"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/caselock/pause:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni$1"
CONFIG
  part "containerd$1" containerd -c "containerd$1.toml"
}

kubelet() {
  local cgroups=/ controller
  # A kubelet takes away what of its own it does not know: not the other's.
  if (($1 > 1)); then
    cgroups=/caselock-node$1
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
      mkdir -p -- "/sys/fs/cgroup$cgroups"
    else
      for controller in /sys/fs/cgroup/*/; do
        mkdir -p -- "$controller$cgroups"
        [[ ! -e $controller/cpuset.cpus ]] || { cat "$controller/cpuset.cpus" >"$controller$cgroups/cpuset.cpus"; cat "$controller/cpuset.mems" >"$controller$cgroups/cpuset.mems"; }
      done
    fi
  fi
  cat >"kubelet$1.yaml" <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(address_of "$1")
port: 20250
healthzPort: $((20240 + $1))
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: $cgroups
podLogsDir: $dir/logs$1
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
# What is loaded can be pulled from nowhere: none of it is ever taken away for room.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
containerRuntimeEndpoint: unix://$(socket_of "$1")
clusterDNS: ["$host"]
clusterDomain: cluster.local
CONFIG
  part "kubelet$1" "$bin/kubelet" --config="kubelet$1.yaml" --kubeconfig=kubeconfig --root-dir="$dir/kubelet$1" --cert-dir="certs$1" \
    --hostname-override="node$1" --node-ip="$(address_of "$1")"
  until_true "node$1" "$bin/kubectl" wait --for=condition=Ready "node/node$1" --timeout=1s
}

# grow: a second node beside the first, with what is loaded there, to drain one of the two.
grow() {
  [[ -e $dir/kubeconfig && ! -e $dir/containerd2.toml ]] || die "there is no cluster of one node in $dir"
  cd -- "$dir"
  export KUBECONFIG=$dir/kubeconfig
  bridge 2
  runtime 2
  until_true containerd2 test -S "$(socket_of 2)"
  local image images
  mapfile -t images < <(ctr -a "$(socket_of 1)" -n k8s.io images ls -q | grep -v '^sha256:')
  for image in "${images[@]}"; do
    ctr -a "$(socket_of 1)" -n k8s.io images export image.tar "$image"
    ctr -a "$(socket_of 2)" -n k8s.io images import image.tar >/dev/null
  done
  rm -f -- image.tar
  kubelet 2
  say 'node2 is ready'
}

load() {
  local node
  for node in 1 2; do
    [[ -e $dir/containerd$node.toml ]] || continue
    until_true "containerd$node" test -S "$(socket_of "$node")"
    ctr -a "$(socket_of "$node")" -n k8s.io images import "$1" >/dev/null
  done
}

# finish NAME…: ends parts, and waits until they are gone.
finish() {
  local name pid deadline
  for name; do
    [[ -e $dir/$name.pid ]] || continue
    pid=$(<"$dir/$name.pid")
    kill "$pid" 2>/dev/null || continue
    deadline=$((SECONDS + 15))
    until gone "$pid"; do
      ((SECONDS < deadline)) || { kill -KILL "$pid" 2>/dev/null || true; }
      sleep 0.1
    done
  done
}

stop() {
  [[ -d $dir ]] || return 0
  if [[ -e $dir/kubeconfig ]]; then
    KUBECONFIG=$dir/kubeconfig timeout 30 "$bin/kubectl" delete pods --all -A --force --grace-period=0 >/dev/null 2>&1 || true
  fi
  finish kubelet1 kubelet2 proxy coredns scheduler controllers apiserver etcd
  local task node socket
  for node in 1 2; do
    socket=$(socket_of "$node")
    if [[ -S $socket ]]; then
      for task in $(ctr -a "$socket" -n k8s.io tasks ls -q); do ctr -a "$socket" -n k8s.io tasks kill -s 9 "$task" 2>/dev/null || true; done
      sleep 1
    fi
    finish "containerd$node"
    pkill -KILL -f "containerd-shim-runc-v2 .*-address $socket" || true
    ip link del "cni$((node - 1))" 2>/dev/null || true
    find /sys/fs/cgroup/*/"caselock-node$node" "/sys/fs/cgroup/caselock-node$node" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  awk '{ print $2 }' /proc/mounts | grep -E "^($dir|/run/caselock-k8s)(/|$)" | sort -r | xargs -r -n1 umount -l || true
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
  cd /
  rm -rf -- "$dir" /run/caselock-k8s
}

case "$#:${1:-}" in
  1:install) install ;;
  1:path) printf '%s\n' "$bin" ;;
  2:start | 2:grow | 2:stop) dir=$(server_dir "$2"); "$1" ;;
  3:load) dir=$(server_dir "$2"); load "$3" ;;
  *) usage ;;
esac
