# await-nodes.sh SECONDS NODE…: until all are Ready.
k() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf "$@"; }
limit=$1 end=$((SECONDS+$1)); shift; names=(); for n; do names+=("node/$n"); done
# It fails at once where a busy API server fails to answer its first question, and does not wait for the creation of nodes where two
# or more do not exist yet (seen with 1.37.2).
until said=$(k wait --for=create "${names[@]}" --timeout "${limit}s" 2>&1 >/dev/null) && said=$(k wait --for=condition=Ready "${names[@]}" --timeout "${limit}s" 2>&1 >/dev/null); do
  limit=$((end-SECONDS))
  [ $limit -gt 0 ] && sleep 0.5 && continue
  printf '%s\n' "$said" >&2
  k get nodes -o go-template='{{range .items}}{{$n := .metadata.name}}{{range .status.conditions}}{{if and (eq .type "Ready") (ne .status "True")}}{{$n}}: {{.message}}{{"\n"}}{{end}}{{end}}{{end}}' >&2
  exit 1
done
