# shellcheck shell=bash
# What kafka.sh and s3.sh share: messages, the cache, Debian packages, and the life cycle of one server in the
# background. Sourced by them, never run.
#
# A server's folder ($dir) holds: server.log, pid, ports (NAME=number lines, picked once), lock, and its data.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

cache_dir() { realpath -m -- "${CASELOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caselock}"; }

# go ARGUMENT…: this machine's Go, or the one that `s3.sh install` brings where there is none.
go() {
  local program
  program=$(type -P go) || program=$(cache_dir)/go/bin/go
  "$program" "$@"
}

# install_mc: MinIO's client, into the cache's tools.
install_mc() {
  local tools
  tools=$(cache_dir)/tools/bin
  [[ ! -x $tools/mc ]] || return 0
  say "going to install mc (built from its Go module)"
  GOBIN=$tools go install github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
}

# mc ARGUMENT…: it, with the aliases of this run.
mc() { MC_CONFIG_DIR=$scratch/mc "$(cache_dir)/tools/bin/mc" "$@"; }

# server_dir DIR: DIR as an absolute path. Refuses characters that a server's configuration gives a meaning to.
server_dir() {
  [[ -n $1 && $1 != *[$'\n,\\{}']* ]] || die "not usable as a server's folder: '$1'"
  realpath -m -- "$1"
}

# hold_lock FILE: one script at a time; held until the script ends. A server must not inherit it: start it with 9>&-.
hold_lock() {
  mkdir -p -- "$(dirname -- "$1")"
  exec 9>"$1"
  flock 9
}

# debian_packages PACKAGE…: installs Debian packages, saying so first.
debian_packages() {
  command -v apt-get >/dev/null || die "this needs $* : install what matches on your system, then run this again"
  local root=()
  ((EUID == 0)) || root=(sudo)
  say "going to install Debian packages: $*"
  "${root[@]}" apt-get update -q >&2
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# By what the servers are reached: the address in CASELOCK_SERVER_HOST, by pods for example. With one that is not loopback they listen on all of this
# machine's addresses.
server_host=${CASELOCK_SERVER_HOST:-127.0.0.1}
if [[ $server_host == 127.* ]]; then listen_host=127.0.0.1; else listen_host=0.0.0.0; fi

# answers PORT: does anything accept TCP connections on 127.0.0.1:PORT?
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ask PORT REQUEST N: sends it (a printf format) to 127.0.0.1:PORT; prints the first N bytes that come back within 5 s.
ask() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    # shellcheck disable=SC2059
    printf "$2" >&3
    timeout 5 head -c "$3" <&3
  ) 2>/dev/null
}

# pick_ports NAME…: the first time, writes a free port for each NAME to $dir/ports. They lie below the range that Linux
# takes outgoing connections' ports from, so they should still be free when a stopped server starts again.
pick_ports() {
  [[ ! -s $dir/ports ]] || return 0
  local name port taken=' '
  for name; do
    while port=$((20000 + RANDOM % 12000)); [[ $taken == *" $port "* ]] || answers "$port"; do :; done
    taken+="$port "
    printf '%s=%s\n' "$name" "$port"
  done >"$dir/ports.new"
  mv -- "$dir/ports.new" "$dir/ports"
}

# port NAME: the port remembered under that name.
port() {
  [[ -s $dir/ports ]] || die "nothing was ever started in $dir"
  sed -n "s/^$1=//p" "$dir/ports"
}

# running: is the process named in $dir/pid alive, and ours? (It has $mark as one of its arguments, which no other
# process has that got the same number later.)
running() {
  [[ -s $dir/pid ]] || return 1
  local args
  mapfile -d '' -t args 2>/dev/null <"/proc/$(<"$dir/pid")/cmdline" || return 1
  [[ " ${args[*]} " == *" $mark "* ]]
} 2>/dev/null

# gone PID: has it ended, all its threads, so that its ports and files are free? (Whether it was reaped doesn't matter.)
gone() {
  local stat tasks
  stat=$(<"/proc/$1/stat") || return 0
  tasks=("/proc/$1/task/"*)
  [[ $stat == *') Z '* ]] && ((${#tasks[@]} == 1))
} 2>/dev/null

# launch COMMAND…: starts it in the background so that it outlives this script, and waits until `ready` says yes, at
# most 60 s. On failure nothing is left running, and the log of this start is shown in part and kept in failed.log.
launch() {
  local pid from deadline=$((SECONDS + 60))
  from=$(($(stat -c %s -- "$dir/server.log" 2>/dev/null || echo 0) + 1))
  setsid nohup "$@" >>"$dir/server.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid" >"$dir/pid"
  until ready "$from"; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= deadline)); then
      kill -KILL "$pid" 2>/dev/null || true
      wait "$pid" 2>/dev/null || true
      rm -f -- "$dir/pid"
      tail -c "+$from" -- "$dir/server.log" >"$dir/failed.log"
      { grep -m 5 -E 'ERROR|FATAL' "$dir/failed.log" || true; echo ...; tail -n 20 "$dir/failed.log"; } >&2
      die "it did not come up; above are the first errors and the end of $dir/failed.log"
    fi
    sleep 0.1
  done
}

# end SIGNAL: sends it and waits until the process is gone; after 30 s, SIGKILL.
end() {
  running || { rm -f -- "$dir/pid"; say "not running"; return 0; }
  local pid deadline=$((SECONDS + 30))
  pid=$(<"$dir/pid")
  kill -s "$1" "$pid" 2>/dev/null || true
  until gone "$pid"; do
    if ((SECONDS >= deadline)); then
      say "still there after 30 s: killing it"
      kill -s KILL "$pid" 2>/dev/null || true
      deadline=$((SECONDS + 30))
    fi
    sleep 0.05
  done
  rm -f -- "$dir/pid"
  say "gone"
}

usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

# life_cycle "$@": the sub-commands. The script that sources this has install, mark_of, start, ready and environment.
life_cycle() {
  case "$#:${1:-}" in
    1:install) install; return ;;
    2:start | 2:stop | 2:kill | 2:env) ;;
    *) usage ;;
  esac
  dir=$(server_dir "$2")
  mark=$(mark_of)
  case $1 in
    env) environment; return ;;
    start) hold_lock "$dir/lock" ;;
    *) [[ -e $dir/lock ]] || { say "not running"; return; }; hold_lock "$dir/lock" ;;
  esac
  case $1 in
    start) if running; then say "already running"; else start; fi ;;
    stop) end "${stop_signal:-TERM}" ;;
    kill) end KILL ;;
  esac
}
