# shellcheck shell=bash
# One node: a Debian tree under an overlay of its own, booted by systemd-nspawn.
#
#   $STATE/nodes/NAME/  address suite tree     what it is
#                       upper work root        its overlay; root is mounted in the keeper's mount namespace only
#                       var/PROGRAM            plain folders: containerd's snapshots cannot sit on an overlay
#                       host_key[.pub] console.log keeper

NODE_FOLDERS=(containerd kubelet etcd)

node_dir() { printf '%s/nodes/%s\n' "$STATE" "$1"; }
node_address() { cat "$STATE/nodes/$1/address"; }
node_names() { (cd "$STATE/nodes" 2> /dev/null && ls) || true; }
node_runs() { ! cgroup_is_empty "keeper-$1" || ! cgroup_is_empty "node-$1"; }

require_node() { [[ -e $STATE/nodes/$1/address ]] || die "no node \"$1\" in this lab; there are: $(node_names | tr '\n' ' ')"; }

# node_make NAME ADDRESS SUITE RUNTIME: a node that has never booted.
node_make() {
  local dir
  dir=$(node_dir "$1")
  mkdir -p "$dir"/{upper,work,root} "${NODE_FOLDERS[@]/#/$dir/var/}"
  # The node's / is the upper folder's inode.
  chmod 755 "$dir/upper"
  printf '%s\n' "$3" > "$dir/suite"
  base_tree "$3" "$4" > "$dir/tree"
  [[ -e $dir/host_key ]] || ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$dir/host_key"
  # Last: from here on the node counts.
  printf '%s\n' "$2" > "$dir/address"
}

# Starts the node's supervisor, which outlives us. It holds none of our files open, least of all the lock.
node_start() {
  (
    cgroup_enter "keeper-$1"
    [[ -z ${LOCK_FD:-} ]] || exec {LOCK_FD}<&-
    exec nsenter --net="/run/netns/$NETNS" setsid unshare --mount --propagation private "$LAB_DIR/lab" _keeper "$1"
  ) >> "$(node_dir "$1")/console.log" 2>&1 < /dev/null &
  printf '%s\n' $! > "$(node_dir "$1")/keeper"
}

# The supervisor: mounts what the node needs where no other process sees it, so that the mounts end with it, and boots
# the node until it powers off. nspawn says 133 when the node rebooted itself.
keeper() {
  local name=$1 code=133
  mkdir -p /run/systemd/nspawn
  mount -t tmpfs tmpfs /run/systemd/nspawn # else two labs with an m1 each meet there
  keeper_mount "$name"
  keeper_seed "$name"
  while ((code == 133)); do
    code=0
    (cgroup_enter "node-$name" && keeper_boot "$name") || code=$?
    cgroup_kill "node-$name"
    cgroup_remove "node-$name"
  done
  exit "$code"
}

keeper_mount() {
  local dir
  dir=$(node_dir "$1")
  mount -t overlay overlay -o "lowerdir=$(< "$dir/tree"),upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
}

# Writes what makes this node different from all others; once, since afterwards the node's own changes count.
keeper_seed() {
  local dir root user uid gid home
  dir=$(node_dir "$1") root=$dir/root
  [[ ! -e $dir/seeded ]] || return 0
  printf '%s\n' "$1" > "$root/etc/hostname"
  tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
  printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost ip6-loopback' "$(< "$dir/address") $1" > "$root/etc/hosts"
  printf 'ADDRESS=%s\nGATEWAY=%s\n' "$(< "$dir/address")" "$GATEWAY" > "$root/etc/lab-node"
  install -m 600 "$dir/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
  install -m 644 "$dir/host_key.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
  while IFS=: read -r user _ uid gid _ home _; do
    [[ $user =~ ^(root|ops|sec)$ ]] || continue
    install -d -m 700 -o "$uid" -g "$gid" "$root$home/.ssh"
    install -m 600 -o "$uid" -g "$gid" "$STATE/home/.ssh/id_ed25519.pub" "$root$home/.ssh/authorized_keys"
  done < "$root/etc/passwd"
  chroot "$root" chpasswd <<< "sec:$(< "$STATE/sudo-password")"
  : > "$dir/seeded"
}

keeper_boot() {
  local name=$1 dir folder options=()
  dir=$(node_dir "$name")
  for folder in "${NODE_FOLDERS[@]}"; do options+=(--bind="$dir/var/$folder:/var/lib/$folder"); done
  # systemd of trixie and later boots under cgroup v1 only when told so twice.
  [[ $(cgroup_version) == 2 || $(< "$dir/suite") == bookworm ]] ||
    options+=(--setenv=SYSTEMD_PROC_CMDLINE="systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
  # The kernel takes a moment to remove the link of a node whose plug was pulled. We are in the lab's network namespace.
  ! ip link show "vb-$name" &> /dev/null || ip link del "vb-$name" || true
  # A kubelet writes below /proc/sys and /sys, asks for kernel keys and bpf, and reads /dev/kmsg.
  export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
  exec systemd-nspawn --quiet --register=no --keep-unit --machine="$name" --directory="$dir/root" --boot --console=pipe \
    --network-bridge=br0 --private-users=no --capability=all --system-call-filter="add_key keyctl bpf perf_event_open" \
    --resolv-conf=off --timezone=off --link-journal=no --bind=/dev/kmsg "${options[@]}"
}

# The pid, out here, of the node's own pid 1; nothing where it is off. One look may miss it: the kernel's list of children is
# whole only while none of them ends (proc(5), `children`).
node_init() {
  local keeper
  keeper=$(cat "$(node_dir "$1")/keeper" 2> /dev/null) || return 0
  for _ in {1..10}; do
    ! _node_init_seen "$keeper" || return 0
    [[ -e /proc/$keeper ]] || return 0
    sleep 0.1
  done
}

# What nspawn, the keeper's child, has as its child.
_node_init_seen() {
  local nspawn init pid
  for nspawn in $(children_of "$1"); do
    for init in $(children_of "$nspawn"); do
      # Two numbers, ours and its own; while it boots, nspawn has helpers that are not in the node.
      while read -r pid; do
        [[ ! $pid =~ ^NSpid:[[:space:]][0-9]+[[:space:]]1$ ]] || { printf '%s\n' "$init"; return 0; }
      done < "/proc/$init/status" || true # it may just have ended
    done
  done 2> /dev/null
  return 1
}

# By the kernel's own list, where it keeps one.
children_of() {
  local children=
  if [[ -e /proc/$1/task/$1/children ]]; then
    read -r children < "/proc/$1/task/$1/children" || true
    printf '%s\n' "$children"
  else
    pgrep -P "$1" || true
  fi
}

# Waits until one can log in. It looks from outside, which costs next to nothing: knocking on the port of a node that is
# not there yet takes a second each time.
node_await() {
  local dir address
  dir=$(node_dir "$1") address=$(node_address "$1")
  wait_until 300 _node_listens_or_died "$1" "$(< "$dir/keeper")" || true
  ! wait_until 60 network_answers "$address" 22 || return 0
  tail -n 20 "$dir/console.log" >&2
  die "node $1 does not answer on $address port 22; the end of its console is above"
}

# The kernel's list of a network namespace's sockets: port 22, no peer, state LISTEN.
_node_listens_or_died() {
  local init
  [[ -e /proc/$2 ]] || return 0
  init=$(node_init "$1")
  [[ -n $init && $(< "/proc/$init/net/tcp") == *':0016 00000000:0000 0A'* ]]
}

# node_stop NAME [--hard]: as its power button does, or as pulling the plug does.
node_stop() {
  local init=
  [[ ${2:-} == --hard ]] || init=$(node_init "$1")
  if [[ -n $init ]]; then
    kill -s RTMIN+4 "$init"
    wait_until 45 cgroup_is_empty "keeper-$1" || say "lab: $1 did not shut down in 45 s; pulling the plug"
  fi
  cgroup_kill "keeper-$1"
  cgroup_kill "node-$1"
  cgroup_remove "keeper-$1"
  cgroup_remove "node-$1"
}

# each_node CMD NAME…: runs CMD NAME for all at once; fails when one did.
each_node() {
  local command=$1 name pid failed=0 pids=()
  shift
  for name in "$@"; do
    "$command" "$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

verb_poweroff() { node_power off "$@"; }
verb_reboot() { node_power cycle "$@"; }

node_power() {
  local what=$1 how=plug_soft name
  shift
  [[ ${1:-} != --hard ]] || { how=plug_hard; shift; }
  (($#)) || usage_error "which node?"
  require_lab
  for name in "$@"; do require_node "$name"; done
  lock_lab
  each_node "$how" "$@"
  [[ $what == off ]] || nodes_boot "$@"
}

plug_soft() { node_stop "$1"; }
plug_hard() { node_stop "$1" --hard; }

# Boots nodes that exist, all at once.
nodes_boot() {
  local name
  for name in "$@"; do node_start "$name"; done
  step nodes "$* up, sshd answers" each_node node_await "$@"
}

# Nothing is waited for inside the node: this is for tests that break it.
verb_root() {
  local name=${1:-} init
  (($# >= 2)) || usage_error "root NODE CMD …"
  shift
  require_lab
  require_node "$name"
  init=$(node_init "$name")
  [[ -n $init ]] || die "node $name is off"
  cgroup_enter_of "$init"
  exec nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root \
    env -i -C /root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}
