# nodes.sh URL SECONDS: nodes, applied bundles and what became of them, how far workloads are, a fact a line. (After objects.sh.)
# All that it asks together, and not each request: kubectl asks five times what is there where it gets no answer.
k() { timeout "$limit" env NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --server "$url" "$@"; }
url=$1 limit=$2
# One question for all, since it is kubectl's start that takes the time.
seen=$(k -n kube-system get nodes,configmaps,daemonsets,deployments -o go-template='{{range .items}}{{$n:=.metadata.name}}{{if eq .kind "Node"}}node {{$n}} {{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}} {{with .metadata.annotations}}{{with index . "rsadm/managed"}}{{.}}{{end}}{{end}}{{"\n"}}{{range .status.addresses}}{{if eq .type "InternalIP"}}address {{$n}} {{.address}}{{"\n"}}{{end}}{{end}}{{range $k,$v:=.metadata.labels}}label {{$n}} {{$k}}={{$v}}{{"\n"}}{{end}}{{range .spec.taints}}taint {{$n}} {{.key}}{{with .value}}={{.}}{{end}}:{{.effect}}{{"\n"}}{{end}}{{else if eq $n "rsadm"}}{{range $k,$v:=.data}}bundle {{$k}} {{$v}}{{"\n"}}{{end}}{{else if .spec}}workload {{.kind}}/{{$n}} {{.metadata.generation}},{{.spec.replicas}}{{with .status}},{{.observedGeneration}},{{.desiredNumberScheduled}},{{.updatedReplicas}},{{.updatedNumberScheduled}},{{.readyReplicas}},{{.numberReady}}{{end}}{{"\n"}}{{end}}{{end}}') || exit 1
# No here-strings: bash writes them into a file, and with a full disk what reads them would not run.
echo "$seen"
record=$(echo "$seen" | sed -n 's/^bundle //p')

# Against what apply.sh noted of the bundles' objects. kubectl tells the others where it could not ask for one, which says nothing of
# that; but where the kind itself is gone, so is the object. Its own status is 1 then, and that of `timeout` another.
got() {
  k get -f - --ignore-not-found -o go-template="$OBJECTS" 2>&1 >&3 |
    awk '!/no matches for kind|^ensure CRDs are installed|^Warning:|^$/ {exit 1}'
  case ${PIPESTATUS[*]} in '0 '* | '1 0') ;; *) return 1 ;; esac
}
now=$({ echo "$record" | sed -n 's/^[^ ]*\.objects //p' | tr ';' '\n' |
  awk '{printf "---\n{apiVersion: %s, kind: %s, metadata: {name: \"%s\"%s}}\n",$1,$2,$4,$3=="-"?"":", namespace: \""$3"\""}' |
  got; } 3>&1) || now=
echo "$now" | edited
[ -z "$now" ] || while read -r name all; do
  name=${name%.objects} all=${all//;/$'\n'}
  mine=$(awk 'NR==FNR{o[$0];next} $1" "$2" "$3" "$4 in o' <(echo "$all") <(echo "$now"))
  gone=$(awk 'NR==FNR{o[$1" "$2" "$3" "$4];next} !($0 in o){print $2"/"$4}' <(echo "$mine") <(echo "$all") | paste -sd' ')
  if [ -n "$gone" ]; then echo "damaged $name $gone gone"
  elif [ "$(echo "$mine" | sum_of)" != "$(echo "$record" | sed -n "s/^$name\.sum //p")" ]; then echo "damaged $name changed in the cluster"; fi
done < <(echo "$record" | grep '^[^ ]*\.objects ')
echo end
