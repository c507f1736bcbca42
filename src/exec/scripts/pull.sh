# pull.sh IMAGE…: through containerd and its registry mirrors.
for _ in $(seq 100); do ctr -n k8s.io version >/dev/null 2>&1 && break; sleep 0.1; done
# Of one whose content is gone, as where a disk lost it, containerd has the name, and fetches nothing anew as long as it has a name
# for it; the kubelet has given it others. What is whole and only not unpacked stays.
seen=$(ctr -n k8s.io images check 2>/dev/null)
printf '%s\n' "$seen" | awk -v wanted=" $* " '$NF == "false" && !/ complete \(/ {of[$1] = $3; if (index(wanted, " " $1 " ")) gone[$3]}
    END {for (name in of) if (of[name] in gone) print name}' |
  xargs -r ctr -n k8s.io images rm --sync >/dev/null 2>&1
there=$(printf '%s\n' "$seen" | awk '$NF == "true" {print $1}')
for image; do
  # It was not told of, maybe, since containerd was down or slow then; and no registry is needed for what is here.
  case $'\n'$there$'\n' in *$'\n'"$image"$'\n'*) continue ;; esac
  said=$(ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$image" 2>&1 >/dev/null) || { printf 'could not pull %s: %s\n' "$image" "${said##*$'\n'}" >&2; exit 1; }
done
