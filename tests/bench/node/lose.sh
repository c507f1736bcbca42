# shellcheck shell=bash
# lose.sh: this host's member stops, and its data is gone. Its manifest is at /root/etcd.yaml.
set -eu
mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml
for _ in $(seq 600); do pgrep -x etcd > /dev/null || break; sleep 0.1; done
if pgrep -x etcd; then exit 1; fi
rm -rf /var/lib/etcd/member
