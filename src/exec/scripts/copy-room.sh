# copy-room.sh: how much room the file system of etcd's database has, as `df` tells. What is left of a defragmentation that
# did not end goes first: etcd writes `db.tmp.*` beside the database (etcd, `backend.go`, `defrag`) and takes none up again. One
# that an etcd has open is at work.
folder=$(sed -nE 's/^ *- --data-dir=//p' /etc/kubernetes/manifests/etcd.yaml 2> /dev/null)
folder=${folder:-/var/lib/etcd}
at_work() {
  local process file name
  for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2> /dev/null
    [ "$name" = etcd ] || continue
    for file in "$process"/fd/*; do [ "$file" -ef "$1" ] && return; done
  done
  return 1
}
for copy in "$folder"/member/snap/db.tmp.*; do
  [ ! -f "$copy" ] || at_work "$copy" || rm -f -- "$copy"
done
LC_ALL=C df -PB1 -- "$folder"
