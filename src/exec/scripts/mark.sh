# mark.sh NODE SECONDS MANAGED LABELS… -- TAINTS…: once the node is there, and then as long again. (After kubectl.sh.)
# What is ours (the annotation) is noted with the labels, in one stroke and last: a run that dies before takes nothing for done.
# What was ours before and is no more is taken back, also where nobody could tell of it when this was planned.
node=$1 limit=$2 managed=$3 end=$((SECONDS+$2))
# A kubelet that registers its node brings taints along.
await() { k wait --for=create "node/$node" --timeout "$((end > SECONDS ? end-SECONDS : 1))s" "$@"; }
there=$(again await -o go-template='{{range .spec.taints}}{{.key}}{{with .value}}={{.}}{{end}}:{{.effect}}{{"\n"}}{{end}}{{with .metadata.annotations}}{{with index . "rsadm/managed"}}ours {{.}}{{end}}{{end}}') || exit 1
shift 3
end=$((SECONDS+limit))
labels='' before=()
IFS=, read -ra ours < <(sed -n 's/^ours //p' <<< "$there")
for m in "${ours[@]}"; do case ,$managed, in *",$m,"*) ;; *) before+=("$m") ;; esac; done
for m in "${before[@]}"; do case $m in *:*) ;; *) labels+=",\"$m\":null" ;; esac; done
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in *=*) labels+=",\"${1%%=*}\":\"${1#*=}\"" ;; *) labels+=",\"${1%-}\":null" ;; esac
  shift
done
shift
wanted=() gone=()
# Not where only its value is another: to take that back would take back the new one.
for m in "${before[@]}"; do
  case $m in *:*) ! grep -qxF -- "$m" <<< "$there" || [[ ,$managed = *",${m%%[=:]*}"[=:]*"${m##*:}"* ]] || gone+=("$m-") ;; esac
done
for t; do case $t in *-) gone+=("$t") ;; *) grep -qxF -- "$t" <<< "$there" || wanted+=("$t") ;; esac; done
# One that is gone already is taken back.
take_back() {
  local said
  said=$(k taint node "$node" "$1" 2>&1 >/dev/null) || case $said in *'not found'*) ;; *) printf '%s\n' "$said" >&2; return 1 ;; esac
}
[ ${#wanted[@]} = 0 ] || again k taint node "$node" --overwrite "${wanted[@]}" >/dev/null || exit 1
for t in "${gone[@]}"; do again take_back "$t" || exit 1; done
again k patch node "$node" --type merge -p "{\"metadata\":{\"labels\":{${labels#,}},\"annotations\":{\"rsadm/managed\":\"$managed\"}}}" >/dev/null
