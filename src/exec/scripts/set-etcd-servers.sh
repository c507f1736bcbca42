# set-etcd-servers.sh SERVERS URL SECONDS: changes --etcd-servers in the manifest, leaves all else as it is, and waits until the
# API server runs with it and is ready. The old manifest comes back where it does not. (After processes.sh.)
servers=$1 url=$2 end=$((SECONDS+$3)) manifest=/etc/kubernetes/manifests/kube-apiserver.yaml kept=/etc/kubernetes/rsadm-kube-apiserver.yaml
grep -q -- '- --etcd-servers=' $manifest || { echo "$manifest has no --etcd-servers" >&2; exit 1; }
# Under names of this process, since one whose connection was lost may still be at the same; what killed ones left goes.
for old in $kept.*; do pid=${old#"$kept."}; [ -e "/proc/${pid%.new}" ] || rm -f "$old"; done
old=$kept.$$
cp -p $manifest $old && sed "s|- --etcd-servers=.*|- --etcd-servers=$servers|" $old > $old.new && chmod 600 $old.new &&
  written=$(stat -c '%i %Y' $old.new) && mv -f $old.new $manifest || exit 1
serves() {
  processes kube-apiserver
  for pid in "${pids[@]}"; do
    tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "--etcd-servers=$servers" || continue
    NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/admin.conf --server "$url" --request-timeout 5s get --raw /readyz >/dev/null 2>&1 && return
  done 2>/dev/null
  return 1
}
late=
while :; do
  ! serves || { rm -f $old; exit 0; }
  # It may have become ready since it was asked before: the last look begins once the time is over.
  [ -z "$late" ] || break
  [ $SECONDS -lt $end ] || late=1
  sleep 0.2
done
# Who has written it since then looks after it.
[ "$(stat -c '%i %Y' $manifest)" = "$written" ] ||
  { rm -f $old; echo "the API server is not ready with --etcd-servers=$servers after $3 s, and its manifest was changed meanwhile" >&2; exit 1; }
mv -f $old $manifest
echo "the API server is not ready with --etcd-servers=$servers after $3 s; its old manifest is back" >&2
exit 1
