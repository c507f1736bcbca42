# pull.sh IMAGE…: through containerd and its registry mirrors.
for _ in $(seq 100); do ctr -n k8s.io version >/dev/null 2>&1 && break; sleep 0.1; done
# Of one whose content is gone, as where a disk lost it, containerd has the name, and fetches nothing anew as long as it has a name
# for it; the kubelet has given it others.
whole=$(ctr -n k8s.io images check -q 2>/dev/null)
for image; do
  printf '%s\n' "$whole" | grep -qxF -e "$image" || ctr -n k8s.io images ls "name==$image" 2>/dev/null | awk 'NR == 2 {print $3}'
done | while read -r gone; do
  ctr -n k8s.io images ls 2>/dev/null | awk -v gone="$gone" '$3 == gone {print $1}' | xargs -r ctr -n k8s.io images rm --sync
done >/dev/null 2>&1
for image; do
  said=$(ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$image" 2>&1 >/dev/null) || { printf 'could not pull %s: %s\n' "$image" "${said##*$'\n'}" >&2; exit 1; }
done
