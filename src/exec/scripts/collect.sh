# collect.sh [CONTAINER]: what explains a failure: units, the last words of containers, ports, disk, clock.
for u in containerd kubelet; do
  echo "== $u: $(systemctl is-active $u 2>/dev/null)"; journalctl -u $u -n 15 --no-pager -o cat 2>/dev/null | cut -c1-400
done
# What nothing was written to for long is of another life of the host.
for f in /var/log/pods/kube-system_${1:-*}-*/*/*.log; do [ "$(find "$f" -mmin -10 2>/dev/null)" ] && { echo "== $f"; tail -n 60 "$f" | cut -c1-400; }; done
echo "== listening"; ss -Hltnp 2>/dev/null | awk '{print $4,$6}'
echo "== disk"; df -h /var/lib /var/lib/etcd 2>/dev/null
echo "== clock $(date -u)"
