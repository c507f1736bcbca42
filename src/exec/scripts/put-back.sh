# put-back.sh SECONDS FOLDER [NAME PORT]…: after a failed change, the manifests that keep.sh kept there go back where what they
# were replaced with does not serve; then waits until they serve, and forgets them. Tells a line each. (After pods.sh.)
end=$((SECONDS+$1)) kept=$2 code=0 back=(); shift 2

serves() { runs "$1" "$(revision_in "$(manifest_of "$1")")" && ss -Hltnp "sport = :$2" | grep -q "pid=$pid,"; }

# Beyond that: what it is for.
ready() {
  case $1 in
    kube-apiserver) NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --request-timeout 5s get --raw /readyz ;;
    etcd) exec 3<>"/dev/tcp/127.0.0.1/$2" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && timeout 5 grep -q '^HTTP/1.. 200' <&3 ;;
  esac >/dev/null 2>&1
}

while [ $# != 0 ]; do
  name=$1 port=$2 manifest=$(manifest_of "$1"); shift 2
  [ -f "$kept/$name.yaml" ] && ! cmp -s "$kept/$name.yaml" "$manifest" && ! serves "$name" "$port" || continue
  # kubelet takes no notice of a file whose name begins with a dot.
  cp -p "$kept/$name.yaml" "${manifest%/*}/.$name.rsadm-new" && sync "${manifest%/*}/.$name.rsadm-new" &&
    mv -f "${manifest%/*}/.$name.rsadm-new" "$manifest" || { echo "the manifest of $name from before could not be put back"; code=1; continue; }
  back+=("$name $port")
done
for entry in "${back[@]}"; do
  read -r name port <<< "$entry"
  until serves "$name" "$port" && (ready "$name" "$port"); do
    [ $SECONDS -lt $end ] || { echo "$name does not serve again yet, although its manifest from before was put back"; code=1; continue 2; }
    sleep 0.2
  done
  echo "$name has its manifest from before again, and serves"
done
[ $code != 0 ] || rm -rf "${kept%/*}"
exit $code
