# shellcheck shell=bash
# healthy.sh PKI: until this host's member is healthy, which it is with a leader; asked with the client certificate in PKI.
for _ in $(seq 1000); do
  curl -s --cacert "$1/ca.crt" --cert "$1/healthcheck-client.crt" --key "$1/healthcheck-client.key" https://127.0.0.1:2379/health |
    grep -q '"health":"true"' && exit 0
  sleep 0.02
done
tail -n 5 /root/etcd.log >&2
exit 1
