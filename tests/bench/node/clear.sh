# shellcheck shell=bash
# clear.sh: a node that `rsadm up` has built is again one without a cluster, with programs, images and a running containerd.
# To be run after a boot in which no kubelet started, so that no pod, mount, route or firewall rule is left.
set -u
systemctl disable -q --now kubelet rsadm-network 2> /dev/null
for id in $(ctr -n k8s.io containers ls -q); do ctr -n k8s.io containers rm "$id" > /dev/null; done
systemctl stop containerd
rm -rf /var/lib/containerd/io.containerd.grpc.v1.cri/{containers,sandboxes}
find /var/lib/etcd /var/lib/kubelet -mindepth 1 -delete
rm -rf /etc/kubernetes /etc/cni/net.d /etc/rsadm /etc/systemd/system/{kubelet,rsadm-network}.service{,.d} \
  /var/lib/cni /var/log/pods /var/log/containers /var/log/kubernetes /var/lib/rsadm/cluster.json
systemctl daemon-reload
systemctl start containerd
sync
