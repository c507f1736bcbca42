# api_ready.sh URL: what the API server there says of itself, status 0 where that is "ready"; then the workloads of
# kube-system, one a line: kind/name, pods that are ready, pods that are wanted; daemon sets' pods that are not ready, and
# their nodes; and "listed", without which nobody knows what is missing. Changes nothing.
hp=${1#https://}
(exec 3<>"/dev/tcp/${hp%:*}/${hp##*:}") 2>/dev/null || { echo "nothing listens on $hp"; exit 1; }
k() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --server "$1" --request-timeout 2s "${@:2}"; }
# Anybody may ask that, and curl takes a tenth of kubectl's time for it; where nobody may, kubectl has a certificate.
said=
! command -v curl >/dev/null || said=$(curl -sS --noproxy '*' --max-time 3 --cacert /etc/kubernetes/pki/ca.crt "$1/readyz?verbose" 2>&1)
case $said in
*'readyz check passed'*) echo ok ;;
*'[-]'*) printf '%s\n' "$said"; exit 1 ;;
*) k "$1" get --raw /readyz 2>&1 || exit 1; echo ;;
esac
k "$1" -n kube-system get deployments,daemonsets,pods -o go-template='{{range .items}}{{if eq .kind "Pod"}}{{$node := or .spec.nodeName "-"}}{{$ready := ""}}{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$ready = "yes"}}{{end}}{{end}}{{if not $ready}}{{range .metadata.ownerReferences}}{{if eq .kind "DaemonSet"}}late DaemonSet/{{.name}} {{$node}}{{"\n"}}{{end}}{{end}}{{end}}{{else}}{{$ready := or .status.readyReplicas .status.numberReady 0}}{{$wanted := or .spec.replicas .status.desiredNumberScheduled 0}}workload {{.kind}}/{{.metadata.name}} {{$ready}} {{$wanted}}{{"\n"}}{{end}}{{end}}' 2>/dev/null && echo listed
exit 0
