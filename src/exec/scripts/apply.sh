# apply.sh FILE BUNDLE HASH SECONDS: server-side, so that what we take out of an object goes; then the bundle is recorded, for which
# there is as long again. (After objects.sh and kubectl.sh.)
end=$((SECONDS+$4))
# A young API server answers some kinds later than others.
d=$(mktemp -d "/run/rsadm.$$.XXXXXX") && trap 'rm -rf "$d"' EXIT || exit 1
said=$d/said file=$d/file given=$1
# Ours alone from here on: where the connection was lost, another run may give the next one the same name. What a killed one
# leaves, remote.sh sweeps.
case $1 in /run/rsadm-*) given=$d/given; mv -f "$1" "$given" || exit 1 ;; esac
# What is applied is $file: what was given, which may be a URL; of CoreDNS all but what operators have set by hand, which is left to
# them, as kubeadm does. Asked at this very moment, since a field that is named is taken away from whoever has set it.
[ "$2" = coredns ] || file=$given
leave_theirs() {
  local found
  [ "$2" = coredns ] || return 0
  found=$(k get -f "$1" --ignore-not-found -o go-template="$OBJECTS") || return 1
  awk -v theirs=" $(printf '%s\n' "$found" | edited | paste -sd' ') " '
    /^---/ {kind = ""} /^kind: / {kind = $2} /^[a-z]/ {part = $1}
    index(theirs, " " kind " ") && (kind == "ConfigMap" && part == "data:" || kind == "Deployment" && /^  replicas:/) {next}
    {print}' "$1" > "$file"
}
until leave_theirs "$given" "$2" 2>"$said" && lines=$(k apply --server-side --force-conflicts --field-manager rsadm -f "$file" -o go-template="$OBJECTS" 2>"$said"); do
  [ $SECONDS -lt $end ] || { cat "$said" >&2; exit 1; }
  sleep 0.2
done
# The answer said which objects these are and what of them is ours, so that a later run sees what became of them.
# A manager of its own for each bundle: what it does not name is left to the others.
record() {
  printf '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rsadm", "namespace": "kube-system"}, "data": {"%s": "%s", "%s.objects": "%s", "%s.sum": "%s"}}' \
    "$1" "$2" "$1" "$(printf '%s\n' "$lines" | awk '{print $1, $2, $3, $4}' | paste -sd';')" "$1" "$(printf '%s\n' "$lines" | sum_of)" |
    k apply --server-side --force-conflicts --field-manager "rsadm-$1" -f - >/dev/null
}
end=$((SECONDS+$4))
again record "$2" "$3"
