# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (h) A snapshot of a database of 1 GB, on the operator's disk: `rsadm etcd snapshot save`, which checks it on the way, and
# etcdctl on a member with scp after it, which do not.

bench_h() {
  local copied=() ours=() n
  say "(h) a snapshot of 1 GB"
  etcd_cluster
  "$LAB" root e1 bash -s < "$BENCH/node/fill.sh" >> "$work/log" 2>&1 || die "etcd could not be filled; see $work/log"
  for n in 1 2 3; do
    rm -rf "$work/snapshots" "$work/copied.db"
    quiet
    measure etcdctl_and_scp
    copied+=("$took")
    quiet
    measure rsadm etcd snapshot save "$work/etcd.yaml" --to "$work/snapshots/"
    ours+=("$took")
  done
  result "size of the database" "$(($(stat -c %s "$work/copied.db") / 1000000)) MB"
  result "etcdctl snapshot save, and scp" "$(median "${copied[@]}") s (${copied[*]})"
  result "rsadm etcd snapshot save" "$(median "${ours[@]}") s (${ours[*]})"
  goal "rsadm / etcdctl and scp" "$(calc "$(median "${ours[@]}") / $(median "${copied[@]}")")" 0.9
  rm -rf "$work/snapshots" "$work/copied.db"
}

etcdctl_and_scp() {
  "$LAB" root e1 rm -f /home/ops/snapshot.db
  ETCDCTL_ENDPOINTS=https://10.77.0.31:2379 etcdctl e1 snapshot save /home/ops/snapshot.db
  "$LAB" root e1 chown ops /home/ops/snapshot.db
  operator bash -c "scp -q ops@10.77.0.31:snapshot.db '$work/copied.db' && sync '$work/copied.db'"
  "$LAB" root e1 rm -f /home/ops/snapshot.db
}
