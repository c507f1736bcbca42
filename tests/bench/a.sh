# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (a) Five hosts with all programs and images → five Ready nodes: `rsadm up`, the real kubeadm, and the floor.

nodes=(m1 m2 m3 w1 w2)

bench_a() {
  local floor ready up kubeadm
  say "(a) three control planes and two workers, from programs and images to five Ready nodes"
  cluster
  back_to floor "${nodes[@]}"
  floor=$(until_ready start_kubelets)
  back_to clear "${nodes[@]}"
  ready=$(until_ready rsadm_up)
  up=$(< "$work/whole")
  back_to clear "${nodes[@]}"
  for i in "${!nodes[@]}"; do on "${nodes[i]}" kubeadm "$version" "$i"; done
  kubeadm=$(until_ready kubeadm_cluster)
  result "floor: everything in place, all kubelets started at once" "$floor s"
  result "rsadm up, until five nodes are Ready" "$ready s"
  result "rsadm up, until its own end (add-ons rolled out)" "$up s"
  result "kubeadm: init, two control-plane joins, two worker joins" "$kubeadm s"
  # Neither kubeadm nor the floor is waited for until add-ons are rolled out.
  result "until its own end: rsadm up / kubeadm, / floor" "$(calc "$up / $kubeadm"), $(calc "$up / $floor")"
  goal "until five nodes are Ready: rsadm up / kubeadm" "$(calc "$ready / $kubeadm" 3)" 0.2
  goal "until five nodes are Ready: rsadm up / floor" "$(calc "$ready / $floor")" 1.5
}

# A lab with a cluster that rsadm built and nothing beside it, whose downloads are not measured. One that kubeadm's run left is
# no use for it.
cluster() {
  without e1
  if has w2; then
    ! rsadm up "$ROOT/inventories/lab.yaml" >> "$work/log" 2>&1 || return 0
    "$LAB" down >> "$work/log" 2>&1
  fi
  "$LAB" up "${nodes[@]}" >> "$work/log" 2>&1
  rsadm up "$ROOT/inventories/lab.yaml" >> "$work/log" 2>&1 || die "rsadm up failed; see $work/log"
}

# Seconds from the start of CMD until five nodes are Ready, as m1's API server says.
until_ready() {
  local start watcher
  on m1 ready 5 > "$work/ready" &
  watcher=$!
  sleep 0.5
  start=$(now)
  "$@" >> "$work/log" 2>&1 || die "failed: $*; see $work/log"
  since "$start" > "$work/whole"
  wait "$watcher"
  calc "$(< "$work/ready") / 1e9 - $start"
}

rsadm_up() { rsadm up "$ROOT/inventories/lab.yaml"; }

start_kubelets() {
  local node pids=()
  for node in "${nodes[@]}"; do "$LAB" root "$node" systemctl start kubelet & pids+=($!); done
  wait "${pids[@]}"
}

# As kubeadm's documentation says: one control plane after the other, then the workers, here both at once.
kubeadm_cluster() {
  local token key join node pids=()
  token=$(random 6).$(random 16) key=$(random 64)
  join="kubeadm join 10.77.0.11:6443 --token $token --discovery-token-unsafe-skip-ca-verification --ignore-preflight-errors=all"
  kubeadm_config "$token" "$key" | "$LAB" root m1 kubeadm init --upload-certs --ignore-preflight-errors=all --config /dev/stdin
  # shellcheck disable=SC2086  # words
  for node in m2 m3; do "$LAB" root $node $join --control-plane --certificate-key "$key"; done
  # shellcheck disable=SC2086
  for node in w1 w2; do "$LAB" root $node $join & pids+=($!); done
  wait "${pids[@]}"
}

random() { head -c 64 /dev/urandom | od -An -tx1 | tr -d ' \n' | head -c "$1"; }

# With the fields that lab nodes need, the same that inventories/lab.yaml gives them.
kubeadm_config() {
  cat << YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $1}]
certificateKey: $2
localAPIEndpoint: {advertiseAddress: 10.77.0.11}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $version
controlPlaneEndpoint: 10.77.0.11:6443
networking: {podSubnet: 10.244.0.0/16}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0, min: 0}
YAML
}
