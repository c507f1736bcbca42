# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (b) Three etcd members, from their programs to a healthy cluster: `rsadm up` on an inventory of etcd hosts alone, and
# etcd's own processes started by hand with certificates that are there already. Beside them the floor of members that are static
# pods: every file in place, and all that is left to do is to start three kubelets.

members=(e1 e2 e3)

bench_b() {
  local raw=() floor=() up=() inventory=$work/etcd-only.yaml node n
  inventory_of "${members[@]}" > "$inventory"
  say "(b) three etcd members, from programs to a leader"
  without m1
  "$LAB" up e1:10.77.0.31 e2:10.77.0.32 e3:10.77.0.33 >> "$work/log" 2>&1
  rsadm up "$inventory" >> "$work/log" 2>&1 || die "rsadm up failed; see $work/log"
  for node in "${members[@]}"; do "$LAB" root "$node" cp -r /etc/kubernetes/pki/etcd /root/etcd-pki; done
  for n in 1 2 3; do
    back_to clear "${members[@]}"
    put_etcd
    measure each_member raw_etcd
    raw+=("$took")
    back_to clear "${members[@]}"
    measure rsadm up "$inventory"
    up+=("$took")
    back_to floor "${members[@]}"
    measure each_member static_pod
    floor+=("$took")
  done
  result "raw: three processes, started at once, all healthy" "$(median "${raw[@]}") s (${raw[*]})"
  result "floor: everything in place, three kubelets, all healthy" "$(median "${floor[@]}") s (${floor[*]})"
  result "rsadm up" "$(median "${up[@]}") s (${up[*]})"
  goal "rsadm up - raw, seconds" "$(calc "$(median "${up[@]}") - $(median "${raw[@]}")")" 1.0
  result "of it: floor - raw, rsadm up - floor" "$(calc "$(median "${floor[@]}") - $(median "${raw[@]}")"), $(calc "$(median "${up[@]}") - $(median "${floor[@]}")")"
}

# The programs that the lab built for the image that goes with the inventory's Kubernetes, as kubeadm names it.
put_etcd() {
  local bin=$CACHE/rsadm-lab/bin kubernetes etcd node
  kubernetes=$(sed -n 's/^kubernetes_version: //p' "$inventory")
  etcd=$("$bin/kubernetes-$kubernetes/kubeadm" config images list --kubernetes-version "$kubernetes" |
    sed -n 's#.*/etcd:\(.*\)-[0-9]*$#\1#p') || true
  [[ -d $bin/etcd-v$etcd ]] || die "the lab has not built the etcd of Kubernetes $kubernetes"
  for node in "${members[@]}"; do tar -C "$bin/etcd-v$etcd" -c etcd | "$LAB" root "$node" tar -xC /root; done
  sync
}

# each_member FUNCTION: on all hosts at once.
each_member() {
  local node pids=()
  for node in "${members[@]}"; do "$1" "$node" & pids+=($!); done
  for node in "${pids[@]}"; do wait "$node" || return 1; done
}

raw_etcd() { on "$1" etcd "$1" && on "$1" healthy /root/etcd-pki; }

static_pod() { "$LAB" root "$1" systemctl start kubelet && on "$1" healthy /etc/kubernetes/pki/etcd; }
