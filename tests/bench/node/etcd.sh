# shellcheck shell=bash
# etcd.sh NAME: one of three members, started by hand with the flags that matter for time and safety.
pki=/root/etcd-pki
address=$(awk -v n="$1" '$2 == n {print $1}' /etc/hosts)
setsid /root/etcd --name "$1" --data-dir /var/lib/etcd/raw --strict-reconfig-check \
  --initial-cluster e1=https://10.77.0.31:2380,e2=https://10.77.0.32:2380,e3=https://10.77.0.33:2380 \
  --initial-advertise-peer-urls "https://$address:2380" --listen-peer-urls "https://$address:2380" \
  --advertise-client-urls "https://$address:2379" --listen-client-urls "https://127.0.0.1:2379,https://$address:2379" \
  --client-cert-auth --trusted-ca-file $pki/ca.crt --cert-file $pki/server.crt --key-file $pki/server.key \
  --peer-client-cert-auth --peer-trusted-ca-file $pki/ca.crt --peer-cert-file $pki/peer.crt --peer-key-file $pki/peer.key \
  > /root/etcd.log 2>&1 < /dev/null &
