# rollout.sh SECONDS NODES KIND/NAME…: until the workloads of kube-system are rolled out. Where nodes are given, separated by
# commas, only what runs on them is waited for: one that is switched off and no longer wanted would never have its pod.
limit=$1 nodes=$2; shift 2
k() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf -n kube-system "$@"; }
# What of a workload is late on the nodes; says nothing where all pods there are of the newest template and Ready.
late() {
  local kind generation seen wanted selector
  read -r kind generation seen wanted selector < <(k get "$1" -o go-template='{{.kind}} {{.metadata.generation}} {{.status.observedGeneration}} {{or .spec.replicas 0}} {{range $k, $v := .spec.selector.matchLabels}}{{$k}}={{$v}},{{end}}{{"\n"}}') &&
    [ "$generation" = "$seen" ] || { echo "not seen yet"; return; }
  k get controllerrevisions,replicasets,pods -l "${selector%,}" -o go-template='{{range .items}}{{$l := .metadata.labels}}{{$hash := or (index $l "controller-revision-hash") (index $l "pod-template-hash")}}{{if eq .kind "Pod"}}{{if not .metadata.deletionTimestamp}}pod {{$hash}} {{.metadata.name}} {{or .spec.nodeName "-"}} {{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}}{{"\n"}}{{end}}{{else}}template {{$hash}} {{or .revision (index .metadata.annotations "deployment.kubernetes.io/revision")}}{{"\n"}}{{end}}{{end}}' |
    awk -v kind="$kind" -v wanted="$wanted" -v nodes="$nodes" '
      $1 == "template" {if ($3 + 0 > last) {last = $3 + 0; newest = $2} next}
      {hash[NR] = $2; name[NR] = $3; node[NR] = $4; ready[NR] = $5 == "True"}
      END {
        n = split(nodes, list, ","); for (i = 1; i <= n; i++) is[list[i]]
        for (i in hash) if (hash[i] == newest) {
          there++; good += ready[i]; if (ready[i]) has[node[i]]
          if (kind == "Deployment" && !ready[i] && (node[i] == "-" || node[i] in is)) print name[i] " is not Ready"
        }
        if (kind == "DaemonSet") for (host in is) if (!(host in has)) print "not Ready on " host
        if (kind == "Deployment" && (there < wanted || wanted && !good)) print there + 0 " of " wanted " pods are new, " good + 0 " Ready"
      }'
}
# kubectl gives a deployment up at once that was late before, though what kept it may be mended: its controller notices with the
# next pod. So it does where a busy API server fails to answer its first question.
rolled_out() {
  local end=$((SECONDS+limit)) left=$limit said
  until [ -n "$nodes" ]; do
    said=$(k rollout status "$1" --timeout "${left}s" 2>&1 >/dev/null) && return
    left=$((end-SECONDS))
    [ $left -gt 0 ] || { printf '%s\n' "$said"; return 1; }
    sleep 1
  done
  while said=$(late "$1"); [ -n "$said" ]; do
    [ $SECONDS -lt $end ] || { printf '%s\n' "$said"; return 1; }
    sleep 0.5
  done
}
for w; do
  said=$(rolled_out "$w") && continue
  printf '%s is not rolled out after %s s: %s\n' "$w" "$limit" "${said##*$'\n'}" >&2
  k get pods -o go-template='{{range .items}}{{$n := .metadata.name}}{{range .status.conditions}}{{if and (ne .status "True") .message}}{{$n}}: {{.message}}{{"\n"}}{{end}}{{end}}{{end}}' | sort -u >&2
  exit 1
done
