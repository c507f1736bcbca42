# join.sh URL SECONDS NODE: until the API server that the kubelet dials is ready; then a kubelet whose node is not there starts
# anew. One that found nobody to register with asks again after pauses that grow to 7 s (kubelet_node_status.go), and for its
# CSINode, which it may have once it is registered and without which it is not Ready, after pauses that grow eightfold
# (csi_plugin.go): it would be Ready up to 17 s late. One that has registered does not do so again, should the node be deleted.
# Its pods run on.
url=$1 limit=$2 pem=/var/lib/kubelet/pki/kubelet-client-current.pem end=$((SECONDS+limit))
hp=${url#https://}
# Says why not. Status 0 where the answer is what was asked for, 22 where it is another one.
if command -v curl >/dev/null; then
  ask() { curl -fsS --noproxy '*' -o /dev/null --max-time 5 --cacert /etc/kubernetes/pki/ca.crt --cert "$pem" --key "$pem" "$url/$1" 2>&1; }
else
  # All that can be seen is whether anything listens; whether the node is there cannot, and the kubelet is started anew.
  ask() {
    [ "$1" = readyz ] || return 22
    (exec 3<>"/dev/tcp/${hp%:*}/${hp##*:}") 2>/dev/null || { echo "nothing listens on $hp"; return 1; }
  }
fi
# status PATH [OTHER]: waits until `ask` ends with 0, or with this; a balancer closes connections when it finds a better server.
status() {
  local said code
  until said=$(ask "$1"); code=$?; [ $code = 0 ] || [ $code = "${2:-0}" ]; do
    [ $SECONDS -lt $end ] || { printf 'no API server is ready at %s, which the kubelet dials, after %s s: %s\n' "$url" "$limit" "$said" >&2; exit 1; }
    sleep 0.4
  done
  return $code
}
status readyz
for object in api/v1/nodes apis/storage.k8s.io/v1/csinodes; do
  status "$object/$3" 22 || { systemctl try-restart kubelet; exit; }
done
