# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# What the benchmarks of etcd's later life share: three members that rsadm founded, and a client beside them.

etcd_hosts=(e1 e2 e3)
endpoints=10.77.0.31:2379,10.77.0.32:2379,10.77.0.33:2379

# Three members, from an inventory at $work/etcd.yaml; their client certificate at $work/pki, and etcd's own client on the hosts.
etcd_cluster() {
  local file
  inventory_of e1 e2 e3 > "$work/etcd.yaml"
  without m1
  has e3 || "$LAB" up e1:10.77.0.31 e2:10.77.0.32 e3:10.77.0.33 >> "$work/log" 2>&1
  rsadm up "$work/etcd.yaml" >> "$work/log" 2>&1 || die "rsadm up failed; see $work/log"
  etcd_client
}

# inventory_of HOST…: of lab-etcd-only.yaml, these hosts.
inventory_of() {
  local pattern
  pattern=$(IFS='|'; echo "$*")
  awk -v keep="name: ($pattern)," '!/- \{name:/ || $0 ~ keep' "$ROOT/tests/lab/inventories/lab-etcd-only.yaml"
}

etcd_client() {
  local programs node
  mkdir -p "$work/pki"
  chmod 700 "$work/pki"
  for file in ca.crt healthcheck-client.crt healthcheck-client.key; do
    "$LAB" root e1 cat "/etc/kubernetes/pki/etcd/$file" > "$work/pki/$file"
  done
  chmod 600 "$work/pki"/*
  programs=$(find "$CACHE/rsadm-lab/bin" -maxdepth 1 -name 'etcd-v*' | sort -V | tail -n 1)
  for node in "${etcd_hosts[@]}"; do tar -C "$programs" -c etcdctl | "$LAB" root "$node" tar -xC /usr/local/bin; done
}

# etcdctl on a host, over all members or as ETCDCTL_ENDPOINTS says.
etcdctl() {
  local node=$1
  shift
  "$LAB" root "$node" env "ETCDCTL_ENDPOINTS=${ETCDCTL_ENDPOINTS:-$endpoints}" ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt \
    ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key etcdctl "$@"
}

# Until all three answer as healthy.
etcd_healthy() {
  local try
  for try in {1..300}; do
    etcdctl e1 endpoint health > /dev/null 2>&1 && return
    sleep 0.2
  done
  die "etcd did not become healthy again after $try tries"
}

# gap CMD…: sets `gap` to the longest time without an acknowledged write while CMD runs.
gap() {
  local writer
  operator python3 "$BENCH/writer.py" "$work/pki" ${endpoints//,/ } > "$work/gap" &
  writer=$!
  sleep 1
  measure "$@"
  sleep 1
  kill "$(< "$work/pki/writer.pid")" || die "the writer is gone; see $work/log"
  wait "$writer" || die "the writer failed"
  read -r gap count < "$work/gap"
  ((count > 50)) || die "the client wrote only $count times"
}
