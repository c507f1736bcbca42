# shellcheck shell=bash
# kubeadm.sh VERSION: what kubeadm finds on a prepared host: kubeadm itself, and the kubelet's unit and drop-in of Kubernetes'
# own packages (kubernetes/release, cmd/krel/templates). Run after clear.sh. The pod network is a gift: it is there already.
set -eu
curl -fsS -o /usr/local/bin/kubeadm "http://10.77.0.1:8080/dl.k8s.io/release/$1/bin/linux/amd64/kubeadm"
chmod 755 /usr/local/bin/kubeadm
mkdir -p /etc/systemd/system/kubelet.service.d /etc/cni/net.d
cat > /etc/cni/net.d/10-bench.conflist << CNI
{"cniVersion": "1.0.0", "name": "bench", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.${2}.0/24"}]]}}]}
CNI
cat > /etc/systemd/system/kubelet.service << 'UNIT'
[Unit]
Description=kubelet: The Kubernetes Node Agent
After=containerd.service
[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10
[Install]
WantedBy=multi-user.target
UNIT
cat > /etc/systemd/system/kubelet.service.d/10-kubeadm.conf << 'UNIT'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
UNIT
systemctl daemon-reload
systemctl enable -q kubelet
sync
