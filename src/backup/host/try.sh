# try.sh scratch: makes a folder for a try and prints it; neither where there is no etcdutl to try with.
# try.sh FILE keep|remove: restores the snapshot FILE for a try, with the etcdutl out of the running etcd's container, or
# one on PATH, or out of an etcd image that containerd has. etcdutl compares the checksum itself. Prints what etcdutl
# says of it as JSON; what was restored goes, and with `remove` FILE and its folder too. (After
# processes.sh.)
umask 077

# looked_for: the etcdutl that is here is `tool`, or in `image`.
looked_for() {
  image=
  processes etcd
  tool=/proc/${pids[0]-}/root/usr/local/bin/etcdutl
  [ ${#pids[@]} != 0 ] && [ -x "$tool" ] && return
  tool=$(command -v etcdutl) && return
  image=$(ctr -n k8s.io images ls -q 2>/dev/null | grep -E '/etcd:[^@]*$' | sort -V | tail -n 1)
  [ "$image" ]
}

if [ "$1" = scratch ]; then
  looked_for || exit 0
  mkdir -p /var/lib/rsadm && mktemp -d /var/lib/rsadm/.rsadm-trial-XXXXXX
  exit
fi
file=$1 scratch=$(mktemp -d -- "${1%/*}/.rsadm-trial-$(</proc/sys/kernel/hostname)@$$-XXXXXX") || exit 1
mounted=
clean() {
  [ "$mounted" ] && { umount "$scratch/image"; ctr -n k8s.io snapshots rm "$mounted" >/dev/null 2>&1; }
  rm -rf -- "$scratch"
  [ "$how" = remove ] && rm -rf -- "${file%/*}"
}
how=$2
trap clean EXIT

program() {
  looked_for || return
  [ "$image" ] || return 0
  mkdir "$scratch/image" && ctr -n k8s.io images mount "$image" "$scratch/image" >/dev/null && mounted=$scratch/image &&
    tool=$scratch/image/usr/local/bin/etcdutl && [ -x "$tool" ]
}

program || { echo "no etcdutl here: no etcd runs, none is on PATH, and containerd has no etcd image" >&2; exit 1; }
"$tool" snapshot restore "$file" --data-dir "$scratch/data" --name trial --initial-cluster trial=http://localhost:2380 \
  --initial-advertise-peer-urls http://localhost:2380 >"$scratch/log" 2>&1 || { grep '^Error' "$scratch/log" >&2 || tail -n 1 "$scratch/log" >&2; exit 1; }
[ -s "$scratch/data/member/snap/db" ] || { echo "etcdutl restored nothing" >&2; exit 1; }
"$tool" snapshot status "$file" -w json
