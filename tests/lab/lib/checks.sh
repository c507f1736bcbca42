# shellcheck shell=bash
# What the lab needs of the machine it runs on, each lack with its remedy.

verb_packages() {
  local missing
  mapfile -t missing < <(packages_missing)
  ((${#missing[@]})) || return 0
  command -v apt-get > /dev/null || die "not a Debian machine; install what brings: ${missing[*]}"
  step packages "${missing[*]}" packages_install "${missing[@]}"
}

packages_missing() {
  comm -23 <(sed 's/[[:space:]]*#.*//; /^$/d' "$LAB_DIR/packages" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2> /dev/null | sed -n 's/^installed //p' | sort -u)
}

# A server that a package brings would be started on this machine's own network; policy-rc.d is how Debian is told not to.
packages_install() {
  local policy=/usr/sbin/policy-rc.d
  if [[ -e $policy ]]; then policy=; else
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    # shellcheck disable=SC2064  # its value now
    trap "rm -f '$policy'" EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -qy --no-install-recommends "$@"
}

require_kernel() {
  local kind
  for kind in mnt pid net uts ipc cgroup; do
    [[ -e /proc/self/ns/$kind ]] || die "this kernel has no $kind namespaces"
  done
  grep -qw overlay /proc/filesystems || modprobe -q overlay || die "this kernel has no overlay file system"
  mountpoint -q /sys/fs/cgroup || die "no cgroups are mounted at /sys/fs/cgroup"
  [[ $(cgroup_version) == 2 || -d /sys/fs/cgroup/systemd ]] || die "cgroup v1 lacks systemd's own hierarchy; try:
  mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd"
  unshare --net sh -c 'ip link add name br0 type bridge' 2> /dev/null || die "this kernel, or this container, gives no network bridge (CONFIG_BRIDGE, CAP_NET_ADMIN)"
  unshare --net sh -c 'ip link add name v0 type veth peer name v1' 2> /dev/null || die "this kernel has no veth devices (CONFIG_VETH)"
  require_watches
}

# systemd, containerd and above all the kubelet watch files: a control plane has some thirty such instances, all nodes are the same
# root to the kernel, and its default for one user is 128.
require_watches() {
  local limit=/proc/sys/fs/inotify/max_user_instances
  (($(< "$limit") >= 1024)) || echo 1024 2> /dev/null > "$limit" ||
    die "fs.inotify.max_user_instances is $(< "$limit"), and the nodes take up to 1024: sysctl fs.inotify.max_user_instances=1024"
}

# The node's overlay cannot sit on another overlay, such as a container's root.
require_state_disk() {
  local try
  try=$(mktemp -d "$STATE/overlay.XXXXXX")
  mkdir "$try"/{lower,upper,work,root}
  unshare --mount mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/root" 2> /dev/null ||
    die "no overlay can be mounted below $STATE; set LAB_STATE to a folder on a plain disk (ext4, xfs)"
  rm -rf "$try"
}

require_compilers() { compilers "step packages" "$@" || exit 1; }
