# shellcheck shell=bash
# A whole lab: up, more of it, what it is, down.

SERVICES=(mirror registry)

verb_up() { lab_up anew "$@"; }
verb_add() { lab_up beside "$@"; }

lab_up() {
  local how=$1 suite=bookworm runtime=none nodes=()
  shift
  while (($#)); do
    case $1 in
      --suite) suite=${2:?--suite needs a Debian release}; shift ;;
      --with-containerd) runtime=containerd ;;
      -*) usage_error "unknown option $1" ;;
      *) nodes+=("$1") ;;
    esac
    shift
  done
  if [[ $how == beside ]]; then
    ((${#nodes[@]})) || usage_error "add which node? NAME:IP"
    require_lab
  fi
  ((${#nodes[@]})) || nodes=(m1 m2 m3 w1 w2)
  verb_packages
  require_kernel
  base_build "$suite" "$runtime"
  lock_lab
  [[ $how == beside ]] || lab_runs || lab_sweep
  lab_boot "$suite" "$runtime" "${nodes[@]}"
}

lab_boot() {
  local suite=$1 runtime=$2 spec start=()
  shift 2
  require_state_disk
  for spec in "$@"; do node_check "$spec"; done
  network_up
  workstation_make
  for spec in "$@"; do
    [[ -e $STATE/nodes/${spec%%:*}/address ]] || node_make "${spec%%:*}" "$(node_wanted "$spec")" "$suite" "$runtime"
    node_runs "${spec%%:*}" || start+=("${spec%%:*}")
  done
  workstation_learn
  services_up
  ((${#start[@]} == 0)) || nodes_boot "${start[@]}"
  : > "$STATE/complete"
}

# The address that NAME or NAME:IP stands for.
node_wanted() {
  local name=${1%%:*}
  if [[ $1 == *:* ]]; then printf '%s\n' "${1#*:}"; else printf '%s\n' "${DEFAULT_NODES[$name]:-}"; fi
}

node_check() {
  local name=${1%%:*} address other have=
  address=$(node_wanted "$1")
  # "vb-NAME" is the name of an interface, which has 15 characters at most.
  [[ $name =~ ^[a-z][a-z0-9-]{0,10}$ ]] || die "node name \"$name\": 1 to 11 of a-z, 0-9 and \"-\", a letter first"
  [[ ! -e $STATE/nodes/$name/address ]] || have=$(node_address "$name")
  [[ -n $address ]] || address=$have
  [[ -n $address ]] || die "node $name needs an address: $name:10.77.0.N"
  [[ -z $have || $have == "$address" ]] || die "node $name is at $have already"
  address_is_ours "$address" || die "node $name: address \"$address\" is not one of 10.77.0.2 to 10.77.0.254"
  for other in $(node_names); do
    [[ $other == "$name" || ! -e $STATE/nodes/$other/address || $(node_address "$other") != "$address" ]] ||
      die "node $name: $other has address $address"
  done
}

address_is_ours() {
  [[ $1 =~ ^10\.77\.0\.([1-9][0-9]{0,2})$ ]] || return 1
  ((BASH_REMATCH[1] >= 2 && BASH_REMATCH[1] <= 254))
}

# The mirror and the registry, where `lab build` has made something to serve.
services_up() {
  local kind
  mkdir -p "$STATE/pids" "$STATE/logs"
  for kind in "${SERVICES[@]}"; do
    cgroup_is_empty "$kind" || continue
    if [[ ! -d $CACHE/$kind ]] || ! declare -F "${kind}_start" > /dev/null; then
      say "[lab] no $kind: there is nothing to serve before \`lab build\`"
    else
      service_up "$kind"
    fi
  done
}

service_up() {
  (
    cgroup_enter "$1"
    [[ -z ${LOCK_FD:-} ]] || exec {LOCK_FD}<&-
    "${1}_start"
  ) > "$STATE/logs/$1-start.log" 2>&1 < /dev/null || {
    cat "$STATE/logs/$1-start.log" >&2
    die "the $1 did not start"
  }
}

verb_status() {
  local name
  lab_runs || { printf 'lab "%s" is not up\n' "$LAB_NAME"; return 3; }
  for name in $(node_names); do
    printf '%-12s %-12s %-9s %s\n' "$name" "$(node_address "$name")" "$(< "$STATE/nodes/$name/suite")" \
      "$(node_runs "$name" && echo on || echo off)"
  done
  for name in "${SERVICES[@]}"; do
    printf '%-12s %-12s %-9s %s\n' "$name" "$GATEWAY" - "$(cgroup_is_empty "$name" && echo off || echo on)"
  done
}

verb_down() {
  # It would have to end its own caller.
  ! grep -q "/$CGROUP" /proc/self/cgroup || die "cannot take the lab down from inside \`lab workstation\`"
  lock_lab
  lab_sweep
  rm -rf --one-file-system "$STATE" "$STATE".step.*
}

# Ends and removes whatever there is of this lab, however much or little that is, but for the state folder itself, which is locked.
lab_sweep() {
  cgroup_kill
  cgroup_remove
  network_down
  sweep_mounts
  sweep_made_folders
  find "$STATE" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {} +
}

# A test may have put a mount into the state folder; the innermost goes first.
sweep_mounts() {
  local target
  awk '{ print $5 }' /proc/self/mountinfo | { grep -F "$STATE/" || true; } | sort -r | while read -r target; do
    umount "$target" || umount --lazy "$target"
  done
}

# Folders that labs mount on belong to all of them: taken away under another, they would take its mounts along. The last one does it.
sweep_made_folders() {
  local folder
  [[ -e $MADE_FOLDERS ]] && ! ip netns list | grep -q "^${NETNS%%.*}\." || return 0
  while read -r folder; do rmdir --ignore-fail-on-non-empty "$folder" || true; done < "$MADE_FOLDERS"
  rm -f "$MADE_FOLDERS"
}
