# wipe.sh CLUSTER FOLDER… -- FOLDER…: everything that rsadm put on this host goes, and what was there before `up`
# (remember.sh) is as it was; the second folders are those of a containerd that is ours. Goes on past what fails and says what
# is left. Each step sees for itself whether there is anything to do, so that an interrupted run is just repeated; the folder
# that says what was there before goes last.
cluster=$1 runtime=no; shift; folders=()
while [ $# != 0 ] && [ "$1" != -- ]; do folders+=("$1"); shift; done
state=/var/lib/rsadm before=$state/before left=()
export LC_ALL=C

main() {
  belongs_here
  ! containerd_is_ours || { runtime=yes; shift; folders+=("$@"); }
  stop_units
  kube_proxy_tables
  end_containers
  unmount
  network
  firewall
  remove_files
  put_back
  etcd_user
  settings
  finish
}

belongs_here() {
  local owner=
  [ ! -f $before/cluster ] || owner=$(cat $before/cluster)
  [ ! -f $state/cluster.json ] || owner=$(sed -n 's/.*"cluster": *"\([^"]*\)".*/\1/p' $state/cluster.json)
  [ -z "$owner" ] || [ "$owner" = "$cluster" ] && return
  echo "this host belongs to the cluster $owner, not to $cluster" >&2
  exit 1
}

# By what install.sh notes before the first of it is in place, once that is there, or by our unit where such notes are lost. The inventory of a reset
# may be another one than that of `up`, and another's containerd has all that its owner runs.
containerd_is_ours() {
  is_in_place $state/placing/containerd || [ -e $state/installed/containerd ] || ours /etc/systemd/system/containerd.service
}

# Whether a file that a note names is there. An install may have come to nothing, and its host's owner have put another one elsewhere.
is_in_place() {
  local file
  [ -f "$1" ] || return
  while read -r _ _ file; do [ ! -e "$file" ] || return 0; done < "$1"
  return 1
}

# Drops lines that are in the notes of that kind. Where an older rsadm, which made no such notes, prepared the host, none.
but_noted() { grep -vxFf <(cat "$before/$1" 2>/dev/null); }
was_there() { [ -f $before/paths ] && grep -qxF -- "$1" $before/paths; }
ours() { [ -f "$1" ] && head -n 1 "$1" | grep -q '^# Written by rsadm'; }
# What another containerd left here, ours went on with. Its database stays, and containerd alone knows which files belong to what.
had_containerd() { grep -qsx /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db $before/paths; }
# What these units were before, in words of systemctl: was kubelet active|enabled.
was() { awk -v u="$1" -v w="$2" '$1 == u && ($2 == w || $3 == w) {found = 1} END {exit !found}' $before/units 2>/dev/null; }

stop_units() {
  systemctl disable --now kubelet rsadm-network >/dev/null 2>&1
  [ ! -f /etc/systemd/system/rsadm-backup.timer ] || systemctl disable --now rsadm-backup.timer rsadm-backup.service >/dev/null 2>&1
}

# The host's nft may be older than kube-proxy's own: Debian 12's crashes on the sets of those tables, and then deletes
# nothing at all. And it may have no iptables, with whose rules kube-proxy may be told to do. So kube-proxy's own programs
# take them away, while it stands still and cannot put them back.
kube_proxy_tables() {
  local pid family save
  for pid in $(pgrep -x kube-proxy); do
    kill -STOP "$pid"
    for family in ip ip6; do chroot "/proc/$pid/root" nft delete table $family kube-proxy 2>/dev/null; done
    for save in iptables ip6tables; do
      ! iptables_is_elsewhere || chroot "/proc/$pid/root" $save-save 2>/dev/null | kubernetes_rules $save |
        chroot "/proc/$pid/root" $save-restore --noflush 2>/dev/null
    done
  done
}

iptables_is_elsewhere() { ! command -v iptables-save >/dev/null && nft list ruleset 2>/dev/null | grep -q 'chain KUBE-'; }

# First whatever is in pods, by their cgroups; then containerd's own view of them.
end_containers() {
  local pid pids end=$((SECONDS+30))
  # On a busy disk what was killed takes its time to go.
  while pids=$(pod_processes); [ -n "$pids" ] && [ $SECONDS -lt $end ]; do
    for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
    sleep 0.1
  done
  [ -z "$pids" ] || left+=("processes of pods that cannot be killed: ${pids//$'\n'/ }")
  kube_proxy_rules
  case $runtime in
    yes)
      ! had_containerd || { systemctl start containerd >/dev/null 2>&1; forget_containers; }
      systemctl disable --now containerd >/dev/null 2>&1
      for pid in $(our_shims); do kill -KILL "$pid" 2>/dev/null; done ;;
    no) forget_containers ;;
  esac
  systemctl stop kubepods.slice >/dev/null 2>&1
  find /sys/fs/cgroup -depth -type d \( -path '*/kubepods*' -o -path '*/k8s.io*' \) -exec rmdir {} + 2>/dev/null
}

pod_processes() { find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un; }

# In a shell of its own, which keeps its words about a crash to itself.
nft_answers() { (nft list tables; exit $?) >/dev/null 2>&1; }

# nft up to 1.0.6 crashes at the tables of a newer kube-proxy (kubernetes#136786), and not every host has nft, or iptables.
# kube-proxy can always take away what it made, also where it did not run any more; and all of IPVS, which may be another's, such
# as keepalived's, where kube-proxy has no device for it.
kube_proxy_rules() {
  local image
  ! nft_answers || iptables_is_elsewhere || return
  image=$(timeout 10 ctr -n k8s.io images ls -q 2>/dev/null | grep -m 1 '/kube-proxy:') || return
  if grep -qs '^[TUSF]' /proc/net/ip_vs && [ ! -e /sys/class/net/kube-ipvs0 ]; then
    # Those of iptables go by its own program where there is one.
    command -v iptables-save >/dev/null && ! command -v nft >/dev/null ||
      left+=("rules of kube-proxy, whose own way to take them away would empty this host's IPVS too; they go at the next boot")
    return
  fi
  timeout 10 ctr -n k8s.io containers rm rsadm-cleanup >/dev/null 2>&1
  timeout 60 ctr -n k8s.io run --rm --net-host --privileged "$image" rsadm-cleanup /usr/local/bin/kube-proxy --cleanup >/dev/null 2>&1
}

# Shims of the containerd that we installed, by program and namespace.
our_shims() {
  local p words
  for p in /proc/[0-9]*; do
    case $(readlink "$p/exe" 2>/dev/null) in /usr/local/bin/containerd-shim-runc-v2 | '/usr/local/bin/containerd-shim-runc-v2 (deleted)') ;; *) continue ;; esac
    mapfile -d '' -t words < "$p/cmdline" 2>/dev/null || continue
    case " ${words[*]} " in *" -namespace k8s.io "*" -address /run/containerd/containerd.sock "*) echo "${p#/proc/}" ;; esac
  done
}

# An existing containerd keeps running and keeps what it had: only what Kubernetes made in its namespace goes.
forget_containers() {
  local id ids kind there
  c() { timeout 20 ctr -n k8s.io "$@" 2>/dev/null; }
  c version >/dev/null || { [ ! -S /run/containerd/containerd.sock ] || left+=("containers of Kubernetes: containerd does not answer"); return; }
  for id in $(c tasks ls -q | but_noted containers); do c tasks kill -s KILL --all "$id" >/dev/null; done
  for id in $(c containers ls -q | but_noted containers); do
    c tasks rm -f "$id" >/dev/null
    c containers rm "$id" >/dev/null
  done
  for id in $(c sandboxes ls | awk 'NR > 1 {print $1}' | but_noted containers); do c sandboxes rm -f "$id" >/dev/null; done
  for kind in leases images; do
    mapfile -t ids < <(c $kind ls -q | but_noted $kind)
    [ ${#ids[@]} = 0 ] || c $kind rm --sync "${ids[@]}" >/dev/null
  done
  grep -qsxF k8s.io $before/namespaces || c namespaces rm k8s.io >/dev/null
  there=$(c containers ls -q) || { left+=("containers of Kubernetes: containerd does not answer"); return; }
  [ -z "$(printf '%s\n' "$there" | but_noted containers)" ] || left+=("containers of Kubernetes in containerd")
}

# What is mounted in a folder; of what is deleted there nothing may be reached through a mount.
mounted_in() {
  local real
  real=$(realpath -m -- "$1") && [ -n "$real" ] || return
  awk -v d="$real/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo
}

# A path of mountinfo, which has a space as \040.
unescaped() { printf '%b' "${1//\\/\\0}"; }

# But for what was mounted before, and what containers from before have mounted.
unmount() {
  local folder m folders=(/var/lib/kubelet /run/containerd/io.containerd.runtime.v2.task/k8s.io /run/containerd/io.containerd.grpc.v1.cri)
  [ "$runtime" = no ] || folders+=(/run/containerd /var/lib/containerd)
  for _ in 1 2 3; do
    for folder in "${folders[@]}"; do
      # Where a link leads to others may have things mounted.
      [ ! -L "$folder" ] || was_there "$folder/" || continue
      mounted_in "$folder" | grep -vFf <(sed 's|.*|k8s.io/&/\nsandboxes/&/|' $before/containers 2>/dev/null) |
        but_noted mounts | sort -r | while IFS= read -r m; do
        m=$(unescaped "$m")
        umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
      done
    done
  done
  for m in /run/netns/cni-*; do
    [ -e "$m" ] && ! grep -qsxF -- "${m##*/}" $before/netns || continue
    umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
    rm -f "$m"
  done
}

network() {
  local link
  # A pod's end goes with its namespace, but when the kernel gets round to it.
  for link in rsadm0 cni0; do
    grep -qsx "$link" $before/links || ip -o link show master "$link" type veth 2>/dev/null
  done | sed 's/^[0-9]*: \([^@:]*\).*/\1/' | while read -r link; do ip link delete "$link"; done
  # An older one flushes all routes with the mark that ours had, which is BGP's.
  if [ -f /etc/rsadm/network.sh ]; then sh -c "$(sed 's/ip route flush proto /ip -4 route flush root "$POD_SUBNET" metric 0 proto /' /etc/rsadm/network.sh)" network.sh down >/dev/null 2>&1; fi
  for link in rsadm0 cni0 flannel.1 kube-ipvs0; do
    grep -qsx "$link" $before/links || ip link delete "$link" 2>/dev/null
  done
}

firewall() {
  local family table save
  for save in iptables ip6tables iptables-legacy ip6tables-legacy; do
    command -v $save-save >/dev/null && $save-save 2>/dev/null | kubernetes_rules $save | $save-restore --noflush 2>/dev/null
  done
  command -v nft >/dev/null || return
  nft_answers || { left+=("nft tables that this host's nft crashes at, probably those of kube-proxy; they go at the next boot"); return; }
  nft list tables 2>/dev/null | while read -r _ family table; do
    ! grep -qsxF "table $family $table" $before/tables || continue
    case $table in
      kube-proxy | rsadm | cni_hostport | cni_plugins_masquerade) nft delete table "$family" "$table" ;;
      # Tables that iptables made for our rules and that hold nothing any more.
      filter | nat | mangle | raw)
        nft list table "$family" "$table" | grep -vqE '^(table .*|[[:space:]]*(chain .*|type .* policy accept;|})?)$' || nft delete table "$family" "$table" ;;
    esac
  done
}

# Reads what that iptables-save wrote; prints what takes Kubernetes' and CNI's chains and the jumps to them away. Chains
# of CNI plugins that were there before stay, and lose only jumps to those that go.
kubernetes_rules() {
  awk -v save="$1" -v notes=$before/chains 'BEGIN {while ((getline line < notes) > 0) kept[line]}
    function goes(chain) {return chain ~ /^(KUBE|CNI)-/ && !((save " " substr(table, 2) " " chain) in kept)}
    function target(i) {for (i = NF - 1; i > 2; i--) if ($i == "-j" || $i == "-g") return $(i + 1)}
    /^\*/ {table = $0; rules = flush = remove = ""}
    /^:/ {chain = substr($1, 2); if (goes(chain)) {flush = flush "-F " chain "\n"; remove = remove "-X " chain "\n"}}
    /^-A / && !goes($2) && goes(target()) {sub(/^-A/, "-D"); rules = rules $0 "\n"}
    /^COMMIT/ && (rules flush) != "" {printf "%s\n%s%s%sCOMMIT\n", table, rules, flush, remove}'
}

# All that is in the folders and was not there before; single files and programs by name.
remove_files() {
  local record folder p
  for record in $state/placing/* $state/installed/*; do
    [ -f "$record" ] || continue
    case ${record##*/} in containerd | runc) [ "$runtime" = yes ] || continue ;; esac
    sed -n 's/^[0-9]* [0-9]* \//\//p' "$record" | while IFS= read -r p; do
      [ -e "$before/files$p" ] && [ "$before/files$p" -ef "$p" ] || rm -f -- "$p" "$p".rsadm-new*
    done
  done
  for folder in "${folders[@]}"; do
    [ -e "$folder" ] || [ -L "$folder" ] || continue
    [ "$folder" != /var/lib/containerd ] || ! had_containerd || continue
    clear_folder "$folder"
    # Folders above that had to be made, such as /opt/cni.
    [ ! -s $before/paths ] || while folder=${folder%/*}; [ -n "$folder" ] && ! was_there "$folder"; do rmdir "$folder" 2>/dev/null || break; done
  done
  for p in /etc/containerd/certs.d/*/hosts.toml /etc/containerd/config.toml; do ! ours "$p" || rm -f "$p"; done
  find /etc/containerd -depth -type d -empty -print 2>/dev/null | while IFS= read -r p; do was_there "$p" || rmdir "$p"; done
  for p in /lib/modules /run/netns /run/containerd/runc /run/containerd/s; do [ ! -s $before/paths ] || was_there $p || rmdir $p 2>/dev/null; done
  rm -rf /run/rsadm-*.yaml /run/rsadm-kept /run/kubernetes
}

# Takes away what is in a folder and was not there before, and the folder too. Of a link to one, only what it leads to,
# unless that was not noted.
clear_folder() {
  local from=$1 m
  if [ -n "$(mounted_in "$1" | but_noted mounts)" ]; then
    left+=("$1: something is still mounted in it")
    return
  fi
  if [ -L "$1" ] && was_there "$1/"; then
    from=$1/
  elif [ -L "$1" ] && [ -n "$(ls -A "$1/" 2>/dev/null)" ]; then
    left+=("$1: a link to $(realpath -m -- "$1"), of which rsadm did not note what was there before: empty it by hand")
    return
  fi
  if [ ! -s $before/paths ] && ! mountpoint -q "$from"; then
    rm -rf --one-file-system -- "$from"
    return
  fi
  empty "$from"
  # Where a link leads to, disks are others'; here the kubelet has written to them, secrets of pods too.
  [ ! -L "$1" ] || return
  mounted_below "$1" | while IFS= read -r m; do
    # What an earlier kubelet mounted for its pods is storage that others may share.
    case ${m#"$1"} in /pods/* | /plugins/*) continue ;; esac
    empty "$(unescaped "$m")"
  done
}

# mounted_in, by the name that the folder has here, which goes through links: find prints paths so.
mounted_below() {
  local real m
  real=$(realpath -m -- "$1")
  mounted_in "$1" | while IFS= read -r m; do printf '%s\n' "${1%/}${m#"$real"}"; done
}

# Takes away what is in a folder and was not there before, but for what is in a mount below. find sees for itself where another
# file system begins, but a part of the same one may be mounted, too.
empty() {
  local m apart=()
  while IFS= read -r m; do
    # As find's pattern.
    m=$(unescaped "$m" | sed 's/[][*?\\]/\\&/g')
    apart+=(! -path "$m" ! -path "$m/*")
  done < <(mounted_below "$1")
  find "$1" -xdev -depth "${apart[@]}" -print0 | grep -zvxFf $before/paths | xargs -0r rm -fd -- 2>/dev/null
}

# What we had replaced, and folders whose mode we had changed.
put_back() {
  local kind mode owner path
  [ ! -d $before/files ] || find $before/files -type f -printf '%P\n' | while IFS= read -r path; do
    case /$path in /etc/*) [ ! -e "/$path" ] || ours "/$path" || continue ;; *) [ ! -e "/$path" ] || continue ;; esac
    mkdir -p "/${path%/*}" && cp -a "$before/files/$path" "/$path"
  done
  [ ! -f $before/tree ] || cut -d'|' -f4- $before/tree | tr '\n' '\0' | xargs -0r stat -c '%F|%a|%u:%g|%n' 2>/dev/null | grep -vxFf - $before/tree | while IFS='|' read -r kind mode owner path; do
    if [ "$kind" = directory ] && [ ! -d "$path" ]; then mkdir -p "$path"; fi
    [ "$kind" = 'symbolic link' ] || [ "$(stat -c '%a|%u:%g' "$path" 2>/dev/null)" = "$mode|$owner" ] || { chown "$owner" "$path" && chmod "$mode" "$path"; } 2>/dev/null
  done
  systemctl daemon-reload
  systemctl reset-failed kubelet rsadm-network containerd >/dev/null 2>&1
  [ "$runtime" = yes ] || restart_theirs
  systemctl kill -s HUP systemd-logind >/dev/null 2>&1
  ! was kubelet enabled || systemctl -q enable kubelet
}

# The user that etcd-data.sh made. Not with userdel, which leaves copies of the user database.
etcd_user() {
  local f
  [ -f $state/user-etcd ] || return
  for f in $(cat $state/user-etcd); do
    f=/etc/$f
    rm -f $f-.rsadm
    ! grep -qs '^etcd:' $f || { cp -a $f $f.rsadm && sed '/^etcd:/d' $f > $f.rsadm && mv -f $f.rsadm $f; } || left+=("the system user etcd in $f")
  done
}

# It runs with our configuration until it is started anew, which its environment tells.
restart_theirs() {
  local pid
  pid=$(systemctl show --value -p MainPID containerd)
  if [ "${pid:-0}" != 0 ] && tr '\0' '\n' < "/proc/$pid/environ" | grep -q ^RSADM_REVISION=; then
    systemctl stop containerd
    [ -s $before/units ] && ! was containerd active || systemctl start containerd || left+=("containerd, which does not start with its former configuration")
  fi
  [ ! -s $before/units ] || was containerd enabled || systemctl -q disable containerd
}

settings() {
  local line
  [ ! -f $before/sysctl ] || while IFS= read -r line; do
    [ "$(cat "${line%%=*}" 2>/dev/null)" = "${line#*=}" ] || printf '%s' "${line#*=}" > "${line%%=*}"
  done < $before/sysctl 2>/dev/null
}

finish() {
  local folder real mounts list
  for folder in "${folders[@]}"; do
    [ -e "$folder" ] && ! was_there "$folder" && ! mountpoint -q "$folder" && left+=("$folder")
  done
  # Snapshots outlive the cluster that they are of, and what is mounted beside them is not for us to empty.
  real=$(realpath -m $state)
  mapfile -t mounts < <(mounted_in $state | grep -v "^$real/backups\(/\|\$\)")
  printf -v list ', %s' "${mounts[@]}"
  [ ${#mounts[@]} = 0 ] || left+=("$state: mounted in it: ${list#, }")
  if [ ${#left[@]} != 0 ]; then
    printf 'left on this host: %s\n' "${left[@]}" >&2
    exit 1
  fi
  find $state/ -mindepth 1 -maxdepth 1 ! -name backups ! -name before -exec rm -rf --one-file-system {} + || exit 1
  # At once: a run with half of the notes would take the rest for ours. (remember.sh begins by removing before.new.)
  [ ! -d $before ] || { rm -rf $before.new && mv -T $before $before.new && rm -rf $before.new; } || exit 1
  rmdir $state 2>/dev/null
  return 0
}

main "$@"
