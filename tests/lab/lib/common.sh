# shellcheck shell=bash
# Names and paths of one lab, words for people, and the lock that keeps verbs apart.

# shellcheck disable=SC2034  # this file's variables are used by the others
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/rsadm-lab
# The same as that of tests/all and of the benchmarks: rsadm is compiled once.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rsadm/target}
LAB_NAME=${LAB_NAME:-default}
# Folders outside that were made to mount on, by any lab: one of them may still stand on another's.
MADE_FOLDERS=$CACHE/made-folders
STATE=$(realpath -m "${LAB_STATE:-${TMPDIR:-/tmp}}")/rsadm-lab-$LAB_NAME-$UID
NETNS=rsadm-lab.$LAB_NAME
CGROUP=rsadm-lab.$LAB_NAME
REPOSITORY=$(dirname "$(dirname "$LAB_DIR")")

# No dot: the names above could otherwise be those of another lab.
[[ $LAB_NAME =~ ^[a-z0-9][a-z0-9-]*$ ]] || {
  printf 'lab: LAB_NAME "%s" is not made of a-z, 0-9 and "-"\n' "$LAB_NAME" >&2
  exit 2
}

# They are parts of the options of mount and nspawn.
[[ $STATE$CACHE != *[:,\\[:space:]]* ]] || {
  printf 'lab: the paths %s and %s must have no space, comma, colon or backslash\n' "$STATE" "$CACHE" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }
die() { say "lab: $*"; exit 1; }
usage_error() { say "lab: $*"; say "Try 'lab help'."; exit 2; }

require_root() { [[ $EUID == 0 ]] || die "needs root (it makes namespaces, mounts and cgroups); try: sudo $0 …"; }

# Seconds since $1, a value of EPOCHREALTIME, with one decimal.
seconds_since() {
  local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
  printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

# step TAG TEXT CMD…: runs a long step quietly; a line every half minute tells that it runs, one at its end its time, or how it failed.
# Not to be called in a condition: bash would then run on after a failing command inside.
step() {
  local tag=$1 text=$2 start=$EPOCHREALTIME log ticker rc=0
  shift 2
  mkdir -p "$(dirname "$STATE")"
  log=$(mktemp "$STATE.step.XXXXXX") # where `down` finds it after a crash
  [[ ! -t 2 ]] || printf '[%s] %s …' "$tag" "$text" >&2
  step_progress &
  ticker=$!
  set +e
  (set -e; "$@") > "$log" 2>&1
  rc=$?
  kill "$ticker"
  wait "$ticker" 2> /dev/null
  set -e
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
  if ((rc)); then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "[$tag] $text failed (exit $rc) after $(seconds_since "$start") s; its last lines are above"
  fi
  rm -f "$log"
  say "[$tag] $text  $(seconds_since "$start") s"
}

# Of the step that is under way. Waits without a process of its own, which would outlive it; `read` says more than 128 after its time.
step_progress() {
  local crates
  until read -rt 30 <> <(:) || (($? <= 128)); do
    kill -0 $$ 2> /dev/null || return # killed, and could not end us
    crates=$(grep -c '^ *Compiling ' "$log" || true)
    ((crates)) && crates=", $crates crates compiled" || crates=
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    say "[$tag] $text …  $(seconds_since "$start") s$crates"
  done
}

# wait_until SECONDS CMD…: polls CMD until it succeeds; fails when it has not in that time.
wait_until() {
  local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
    sleep 0.1
  done
}

# Takes the lock of this lab, making its state folder; held until this process ends.
# The folder itself is what is locked, so `down` leaves no lock file; it may have been replaced while we waited.
lock_lab() {
  while :; do
    (umask 077; mkdir -p "$STATE")
    [[ -O $STATE && ! -L $STATE ]] || die "$STATE belongs to someone else"
    exec {LOCK_FD}< "$STATE"
    flock -w 120 "$LOCK_FD" || die "another lab verb has been busy with $STATE for two minutes"
    [[ $STATE -ef /proc/self/fd/$LOCK_FD ]] && return
    exec {LOCK_FD}<&-
  done
}

# Whether `up` came to its end, and nothing took the network away since.
lab_runs() { [[ -e $STATE/complete && -e /run/netns/$NETNS ]]; }
require_lab() { lab_runs || die "lab \"$LAB_NAME\" is not up; try: lab up"; }
