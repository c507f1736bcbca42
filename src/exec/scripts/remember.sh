# remember.sh CLUSTER FOLDER… -- PROGRAM… -- SETTING…: notes once, before the first change, what is on this host in the
# places that rsadm writes to, so that `reset` (wipe.sh) can leave it as it was.
#   tree      every file and folder there: type, mode, owner, path
#   files     copies of those that could be overwritten; programs as hard links, since they are only ever replaced
#   paths units tables links mounts sysctl cluster
#   netns chains                 of CNI plugins that others use: networks of containers; `iptables TABLE CHAIN` lines
#   images leases namespaces containers   of a containerd
set -u
state=/var/lib/rsadm new=/var/lib/rsadm/before.new
[ ! -e $state/before ] || exit 0
rm -rf $new
# shellcheck disable=SC2174  # /var/lib is there
mkdir -p -m 755 $state && mkdir -m 700 $new $new/files || exit 1
printf '%s\n' "$1" > $new/cluster
shift
# A host that rsadm built and that lost its notes: what is there is not what was before. So had those that an older rsadm built none.
if grep -qs '^# Written by rsadm' /etc/systemd/system/{kubelet,containerd}.service{,.d/*.conf}; then
  mv -T $new $state/before
  exit
fi

folders=() programs=()
while [ "$1" != -- ]; do folders+=("$1"); shift; done
shift
while [ "$1" != -- ]; do programs+=("$1"); shift; done
shift
cd /
for f in "${folders[@]}"; do
  # Also the folders above, which may have to be made.
  p=$f
  while p=${p%/*}; [ -n "$p" ]; do [ ! -e "$p" ] || printf '%s\n' "$p"; done
  [ ! -e "$f" ] || find "$f"
  # A link stays, and what it leads to is emptied.
  [ ! -L "$f" ] || [ ! -d "$f" ] || find "$f/"
done | sort -u > $new/paths
# Made by whoever asks for them first, pods or CNI.
for p in /lib/modules /run/netns /run/containerd/runc /run/containerd/s; do [ ! -d $p ] || echo $p >> $new/paths; done
# All at once: what another containerd left is a hundred thousand files.
tr '\n' '\0' < $new/paths | xargs -0r stat -c '%F|%a|%u:%g|%n' > $new/tree 2>/dev/null
keep() { [ ! -f "$1" ] || cp -a$2 --parents "${1#/}" $new/files/ || cp -a --parents "${1#/}" $new/files/; }
for p in "${programs[@]}"; do keep "$p" l; done
# Configuration is small; what is large is data, which nobody overwrites.
find /etc/kubernetes /etc/cni /etc/containerd /etc/systemd/system/{kubelet,containerd}.service{,.d} -type f -size -1024k 2>/dev/null |
  while IFS= read -r p; do keep "$p" ''; done
for u in kubelet containerd; do printf '%s %s %s\n' $u "$(systemctl is-active $u 2>/dev/null)" "$(systemctl is-enabled $u 2>/dev/null)"; done > $new/units
nft list tables > $new/tables 2>/dev/null
for k in iptables ip6tables iptables-legacy ip6tables-legacy; do
  command -v $k-save >/dev/null && $k-save 2>/dev/null | awk -v k=$k '/^\*/ {table = substr($1, 2)} /^:CNI-/ {print k, table, substr($1, 2)}'
done > $new/chains
ls /sys/class/net > $new/links
awk '{print $5}' /proc/self/mountinfo > $new/mounts
ls /run/netns > $new/netns 2>/dev/null
touch $new/{images,leases,namespaces,containers}
# What a busy containerd does not tell a reset would take for ours. Nothing was changed yet, and who runs this again notes it all.
untold() { echo "containerd does not tell what it has, so that this could not be noted: $*" >&2; exit 1; }
ask() { timeout 30 ctr -n k8s.io "$@"; }
if [ -S /run/containerd/containerd.sock ] && command -v ctr >/dev/null &&
  { [ "$(systemctl is-active containerd 2>/dev/null)" = active ] || timeout 30 ctr version >/dev/null 2>&1; }; then
  for k in images leases namespaces containers; do said=$(ask $k ls -q 2>&1 > $new/$k) || untold "ctr $k ls: ${said##*$'\n'}"; done
  # Older ones have no sandboxes.
  said=$(ask sandboxes ls 2>/dev/null); [ $? != 124 ] || untold "ctr sandboxes ls"
  printf '%s\n' "$said" | awk 'NR > 1 {print $1}' >> $new/containers
fi
for k; do
  p=/proc/sys/${k//.//}
  [ ! -r "$p" ] || printf '%s=%s\n' "$p" "$(cat "$p")"
done > $new/sysctl
sync $new/tree 2>/dev/null
mv -T $new $state/before
