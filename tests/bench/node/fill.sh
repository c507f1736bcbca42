# shellcheck shell=bash
# fill.sh: 1 GB of values that do not compress, a thousand of them.
set -eu
pki=/etc/kubernetes/pki/etcd
export ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=$pki/ca.crt ETCDCTL_CERT=$pki/healthcheck-client.crt ETCDCTL_KEY=$pki/healthcheck-client.key
[ "$(etcdctl get bench/fill-1000 --keys-only)" = "" ] || exit 0
for n in $(seq 1000); do
  head -c 750000 /dev/urandom | base64 -w0 | etcdctl put "bench/fill-$n" > /dev/null
done
sync
