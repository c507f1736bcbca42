# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (g) The longest time for which a client can write nothing while all members restart: `rsadm up` after a change of an
# argument, and a plain restart of one after the other, each after the last is healthy. And while 1 GB is defragmented, by
# `rsadm etcd defrag` and by etcdctl, which takes the members in the order in which they are named.

bench_g() {
  rolling_restart
  defragmentation
}

rolling_restart() {
  local alone=() plain=() ours=() n
  say "(g) a rolling restart of three members under a client that writes"
  etcd_cluster
  for n in 1 2 3; do
    quiet
    gap sleep 10
    alone+=("$gap")
    gap plain_restart
    plain+=("$gap")
    sed "/^cluster_name/a etcd: {extra_args: {max-request-bytes: \"$((2000000 + n))\"}}" "$work/etcd.yaml" > "$work/rolled.yaml"
    quiet
    gap rsadm up "$work/rolled.yaml"
    ours+=("$gap")
  done
  result "nothing restarts, longest time without a write" "$(median "${alone[@]}") s (${alone[*]})"
  result "plain restart, longest time without a write" "$(median "${plain[@]}") s (${plain[*]})"
  result "rsadm up" "$(median "${ours[@]}") s (${ours[*]})"
  goal "rsadm up, longest time without a write, seconds" "$(median "${ours[@]}")" 1.0
  goal "rsadm up / plain restart" "$(calc "$(median "${ours[@]}") / $(median "${plain[@]}")")" 0.5
}

# All of it is in use, which takes longest: each member writes a copy of it and answers nobody meanwhile.
defragmentation() {
  local plain=() ours=() n
  say "(g) 1 GB is defragmented under the same client"
  "$LAB" root e1 bash -s < "$BENCH/node/fill.sh" >> "$work/log" 2>&1 || die "etcd could not be filled; see $work/log"
  for n in 1 2 3; do
    quiet
    gap etcdctl e1 --command-timeout=600s defrag
    plain+=("$gap")
    quiet
    gap rsadm etcd defrag "$work/etcd.yaml" --min-gain 0
    ours+=("$gap")
  done
  result "etcdctl defrag, longest time without a write" "$(median "${plain[@]}") s (${plain[*]})"
  result "rsadm etcd defrag" "$(median "${ours[@]}") s (${ours[*]})"
  goal "rsadm etcd defrag, longest time without a write, seconds" "$(median "${ours[@]}")" 1.0
}

plain_restart() {
  local node
  for node in "${etcd_hosts[@]}"; do
    on "$node" restart || return 1
    etcd_healthy
  done
}
