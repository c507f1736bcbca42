# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (i) One member grows to three, programs and images on the hosts: `rsadm up`. etcd refuses a change of membership while a
# member has not been seen for 5 s, so the third must wait for the second; no tool can be faster than that.

bench_i() {
  local grown=() n
  say "(i) one member grows to three"
  etcd_cluster
  inventory_of e1 > "$work/one.yaml"
  for n in 1 2 3; do
    back_to clear "${etcd_hosts[@]}"
    rsadm up "$work/one.yaml" >> "$work/log" 2>&1 || die "rsadm up failed; see $work/log"
    quiet
    measure rsadm up "$work/etcd.yaml"
    grown+=("$took")
  done
  result "rsadm up, from one member to three" "$(median "${grown[@]}") s (${grown[*]})"
  goal "beyond etcd's own 5 s, seconds for each of the two" "$(calc "($(median "${grown[@]}") - 5) / 2")" 2.0
}
