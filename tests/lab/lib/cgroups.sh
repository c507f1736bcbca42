# shellcheck shell=bash
# Every process of the lab lives in cgroups of the lab's own, below those of whoever called `up`. They keep the nodes' pods
# apart, and they are how `down` finds every process, whatever became of its parents.
#
#   HOME/keeper-NODE  the node's supervisor        HOME/node-NODE    the node
#   HOME/mirror       HOME/registry                HOME/workstation  what `lab workstation` runs

cgroup_version() { [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]] && echo 2 || echo 1; }

# The lab's folder in each hierarchy, one a line, for new processes. The only place that tells cgroup v1 from v2.
cgroup_homes() {
  if [[ $(cgroup_version) == 2 ]]; then cgroup2_home; else cgroup1_homes; fi
}

cgroup1_homes() {
  local name path mount
  while IFS=: read -r _ name path; do
    mount=/sys/fs/cgroup/${name#name=}
    [[ -n $name ]] || mount=/sys/fs/cgroup/unified
    [[ -d $mount ]] || continue
    path=${path%%/"$CGROUP"*} # called from inside `lab workstation`
    [[ -d $mount$path ]] || path=
    printf '%s\n' "$mount${path%/}/$CGROUP"
  done < /proc/self/cgroup
}

# With v2 a cgroup that passes controllers on may hold no processes, as the caller's does. So the home is below the
# root, which is exempt; where systemd runs, which owns that, it is a scope that systemd delegates to us.
cgroup2_home() {
  local home=/sys/fs/cgroup/$CGROUP
  if [[ -d /run/systemd/system ]]; then
    home=$(find /sys/fs/cgroup -type d -name "$CGROUP.scope" -prune -print -quit)
    [[ -n $home ]] || home=$(cgroup2_scope)
  else
    mkdir -p "$home"
    cgroup2_pass_on /sys/fs/cgroup
  fi
  cgroup2_pass_on "$home"
  printf '%s\n' "$home"
}

# Makes the scope, with a sleeper in it (an empty scope goes away), and prints its folder.
cgroup2_scope() {
  systemd-run --quiet --scope --unit="$CGROUP" --property=Delegate=yes sleep infinity < /dev/null > /dev/null 2>&1 &
  local sleeper=$! path
  wait_until 10 grep -q "/$CGROUP.scope" "/proc/$sleeper/cgroup" || die "systemd gave no scope for the lab's cgroups"
  path=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$sleeper/cgroup")
  mkdir -p "$path/sleeper"
  echo "$sleeper" > "$path/sleeper/cgroup.procs"
  printf '%s\n' "$path"
}

cgroup2_pass_on() {
  local controller
  # shellcheck disable=SC2013  # they are words of one line
  for controller in $(cat "$1/cgroup.controllers"); do
    echo "+$controller" > "$1/cgroup.subtree_control" 2> /dev/null || true
  done
}

# cgroup_enter NAME: moves this process (a subshell counts as one) into the lab's cgroup NAME, in every hierarchy.
cgroup_enter() {
  local home folder
  for home in $(cgroup_homes); do
    for folder in "$home" "$home/$1"; do
      mkdir -p "$folder"
      cpuset_inherit "$folder"
    done
    echo "$BASHPID" > "$home/$1/cgroup.procs"
  done
}

# A new cpuset of cgroup v1 has no CPUs and takes no process before it is given some.
cpuset_inherit() {
  [[ -e $1/cpuset.sched_load_balance && -z $(cat "$1/cpuset.cpus") ]] || return 0
  cat "$1/../cpuset.cpus" > "$1/cpuset.cpus"
  cat "$1/../cpuset.mems" > "$1/cpuset.mems"
}

# Enters the very cgroups of process $1, which lives in a lab cgroup.
cgroup_enter_of() {
  local name path mount
  while IFS=: read -r _ name path; do
    mount=/sys/fs/cgroup/${name#name=}
    [[ -n $name ]] || mount=/sys/fs/cgroup/unified
    [[ $(cgroup_version) == 1 ]] || mount=/sys/fs/cgroup
    [[ $path != *"/$CGROUP"* || ! -d $mount$path ]] || echo "$BASHPID" > "$mount$path/cgroup.procs"
  done < "/proc/$1/cgroup"
}

# The existing folders of the lab's cgroup $1 (of all, if none is given), wherever whoever called `up` had his.
cgroup_folders() {
  find /sys/fs/cgroup -type d \( -name "$CGROUP" -o -name "$CGROUP.scope" \) -prune -print 2> /dev/null |
    while read -r home; do
      [[ ! -d $home${1:+/$1} ]] || printf '%s\n' "$home${1:+/$1}"
    done
}

# The processes in the lab's cgroup $1 and below it. 0 stands for one that this pid namespace cannot see.
cgroup_pids() {
  local folder
  for folder in $(cgroup_folders "${1:-}"); do
    find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null || true
  done | sort -un | grep -vx 0 || true
}

cgroup_is_empty() { [[ -z $(cgroup_pids "${1:-}") ]]; }

# Ends every process of cgroup $1 and waits until they are gone. Paused containers cannot die before they are thawed.
cgroup_kill() {
  local tries folder pids
  for ((tries = 0; tries < 100; tries++)); do
    pids=$(cgroup_pids "${1:-}")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086  # a list of words
    kill -KILL $pids 2> /dev/null || true
    for folder in $(cgroup_folders "${1:-}"); do
      find "$folder" -name freezer.state -exec sh -c 'for f; do echo THAWED > "$f"; done' sh {} + 2> /dev/null || true
      find "$folder" -name cgroup.freeze -exec sh -c 'for f; do echo 0 > "$f"; done' sh {} + 2> /dev/null || true
    done
    sleep 0.05
  done
  die "still running in cgroup $CGROUP${1:+/$1} after SIGKILL: $(tr '\n' ' ' <<< "$pids")"
}

# Removes the folders of cgroup $1, the innermost first; a cgroup stays busy for a moment after its last process.
cgroup_remove() {
  wait_until 60 _cgroup_removed "${1:-}" || die "cgroups are left: $(cgroup_folders "${1:-}" | tr '\n' ' ')"
}

_cgroup_removed() {
  local folder
  for folder in $(cgroup_folders "${1:-}"); do
    find "$folder" -depth -type d -exec rmdir {} \; 2> /dev/null || true
  done
  [[ -z $(cgroup_folders "${1:-}") ]]
}
