# shellcheck shell=bash
# floor.sh: a node that `rsadm up` has built keeps certificates, manifests and configuration, and forgets its cluster's data,
# its containers and its kubelet's state. Run like clear.sh; then all that is left to do is to start the kubelet.
set -u
for id in $(ctr -n k8s.io containers ls -q); do ctr -n k8s.io containers rm "$id" > /dev/null; done
systemctl stop containerd
rm -rf /var/lib/containerd/io.containerd.grpc.v1.cri/{containers,sandboxes} /var/lib/cni /var/log/pods /var/log/containers
find /var/lib/etcd -mindepth 1 -delete
find /var/lib/kubelet -mindepth 1 -not -path '/var/lib/kubelet/pki*' -not -path /var/lib/kubelet/config.yaml -delete
manifest=/etc/kubernetes/manifests/etcd.yaml
[ ! -e $manifest ] || sed -i 's/initial-cluster-state=existing/initial-cluster-state=new/' $manifest
systemctl start containerd
sync
