# rollout.sh SECONDS KIND/NAME…: until the workloads of kube-system are rolled out.
limit=$1; shift
k() { kubectl --kubeconfig /etc/kubernetes/super-admin.conf -n kube-system "$@"; }
for w; do
  said=$(k rollout status "$w" --timeout "${limit}s" 2>&1 >/dev/null) && continue
  printf '%s is not rolled out after %s s: %s\n' "$w" "$limit" "${said##*$'\n'}" >&2
  k get pods -o go-template='{{range .items}}{{$n := .metadata.name}}{{range .status.conditions}}{{if and (ne .status "True") .message}}{{$n}}: {{.message}}{{"\n"}}{{end}}{{end}}{{end}}' | sort -u >&2
  exit 1
done
