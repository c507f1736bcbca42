# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (f) A member whose host lost its data, until three healthy voters are there again: `rsadm etcd replace`, and the shortest
# way by hand, with everything known and typed in advance.

bench_f() {
  local hand=() ours=() n
  say "(f) a dead member is replaced on its host"
  etcd_cluster
  for n in 1 2 3; do
    lose e3
    quiet
    measure replace_by_hand
    hand+=("$took")
    lose e3
    quiet
    measure rsadm etcd replace "$work/etcd.yaml" e3
    ours+=("$took")
  done
  result "by hand: remove, add as learner, start, promote" "$(median "${hand[@]}") s (${hand[*]})"
  result "rsadm etcd replace" "$(median "${ours[@]}") s (${ours[*]})"
  goal "rsadm etcd replace - by hand, seconds" "$(calc "$(median "${ours[@]}") - $(median "${hand[@]}")")" 2.0
}

# lose NODE: etcd and its data are gone.
lose() {
  etcd_healthy
  sleep 6 # etcd counts a member as active that was seen within 5 s
  on "$1" lose >> "$work/log" 2>&1 || die "the member of $1 could not be ended; see $work/log"
}

# The manifest that rsadm wrote serves as it is: it names all members, and an existing cluster.
replace_by_hand() {
  local id ETCDCTL_ENDPOINTS=${endpoints%,*}
  id=$(etcdctl e1 member list | awk -F', ' '$3 == "e3" {print $1}')
  etcdctl e1 member remove "$id"
  # etcd refuses a change while a member was not seen for 5 s, and to promote one that lags.
  patiently etcdctl e1 member add e3 --learner --peer-urls https://10.77.0.33:2380 > "$work/added"
  "$LAB" root e3 mv /root/etcd.yaml /etc/kubernetes/manifests/etcd.yaml
  patiently etcdctl e1 member promote "$(sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p' "$work/added")"
}

# CMD until it succeeds, at most 30 s.
patiently() {
  local end=$((SECONDS + 30))
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}
