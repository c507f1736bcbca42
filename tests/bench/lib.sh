# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# What the benchmarks share: a lab of their own, a clock, goals, and nodes that are put back to where a run begins.

# shellcheck disable=SC2034  # this file's variables are used by the others
BENCH=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
ROOT=$(dirname "$(dirname "$BENCH")")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
LAB=$ROOT/tests/lab/lab
export LAB_NAME=${LAB_NAME:-bench-$$}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/rsadm/target}
RSADM=$CARGO_TARGET_DIR/release/rsadm
missed=0

say() { printf '%s\n' "$*" >&2; }
die() { say "bench: $*"; exit 1; }

# Seconds since the epoch as a decimal number, and arithmetic with such.
now() { printf '%s\n' "$EPOCHREALTIME"; }
calc() { awk "BEGIN {printf \"%.${2:-2}f\", $1}"; }
since() { calc "$(now) - $1"; }

# measure CMD…: sets `took` to the seconds that it takes; what it prints goes to the log of this run.
measure() {
  local start
  start=$(now)
  "$@" >> "$work/log" 2>&1 || die "failed: $* (its words are the last of $work/log): $(tail -n 5 "$work/log")"
  took=$(since "$start")
}

# The middle one of numbers.
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

# result WHAT VALUE: a line of figures.
result() { printf '  %-58s %s\n' "$1" "$2"; }

# goal WHAT VALUE LIMIT: one line that says plainly whether it is met.
goal() {
  local verdict=met
  awk "BEGIN {exit !($2 <= $3)}" || { verdict=MISSED; missed=$((missed + 1)); }
  printf '  %-58s %s (goal: at most %s): %s\n' "$1" "$2" "$3" "$verdict"
}

operator() { "$LAB" workstation "$@"; }
rsadm() { operator "$RSADM" "$@"; }

# on NODE SCRIPT ARGUMENT…: a script of node/ as root on a node.
on() {
  local node=$1 script=$2
  shift 2
  "$LAB" root "$node" bash -s -- "$@" < "$BENCH/node/$script.sh"
}

# each SCRIPT NODE…: the same on all at once.
each() {
  local script=$1 node pids=()
  shift
  for node; do on "$node" "$script" & pids+=($!); done
  for node in "${pids[@]}"; do wait "$node" || return 1; done
}

# back_to SCRIPT NODE…: the plug is pulled, so that nothing of the last run is in any kernel; then the script.
back_to() {
  local script=$1 node
  shift
  # No kubelet starts with the node, where there is one: it would go on where it was.
  for node; do "$LAB" root "$node" bash -c 'set -- /etc/systemd/system/*.wants/kubelet.service; rm -f "$@"'; done
  "$LAB" reboot --hard "$@" >> "$work/log" 2>&1
  for node; do "$LAB" root "$node" bash -c 'until systemctl is-active -q containerd; do sleep 0.1; done'; done
  each "$script" "$@" >> "$work/log" 2>&1
  quiet
}

# has NODE: whether the lab has it. Not in a pipe, which fails where `grep` has seen enough before `lab` has said all.
has() { grep -q "^$1 " <<< "$("$LAB" status 2> /dev/null)"; }

# without NODE: ends the lab where it has that node, of another benchmark's cluster, which would be measured along.
without() { ! has "$1" || "$LAB" down >> "$work/log" 2>&1; }

# Others' work on the machine would be measured along: waits for calm, not for ever.
quiet() {
  local try
  sync
  for try in {1..30}; do
    read -r load _ < /proc/loadavg
    awk "BEGIN {exit !($load < 1.5)}" && return
    [ "$try" = 1 ] && [ -z "${BENCH_PATIENT:-}" ] && { sleep 5; return; }
    sleep 2
  done
}
