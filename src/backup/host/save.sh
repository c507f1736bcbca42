# save.sh FOLDER STEM ENDPOINT: a snapshot of the member on this host into FOLDER, named after STEM and its revision.
# Prints NAME SIZE SHA256 REVISION. The file has its name only once it is whole and on the disk. (After processes.sh.)
folder=$1 stem=$2 endpoint=$3
umask 077
processes etcd
[ ${#pids[@]} != 0 ] || { echo "no etcd runs here" >&2; exit 1; }
tools=/proc/${pids[0]}/root/usr/local/bin pki=/etc/kubernetes/pki/etcd
mkdir -p -- "$folder" || exit 1
incoming=$folder/.rsadm-incoming-$(</proc/sys/kernel/hostname)@$$
trap 'rm -f -- "$incoming" "$incoming.part"' EXIT
# Of what it logs, the last words are what matters.
said=$("$tools/etcdctl" --endpoints="$endpoint" --cacert=$pki/ca.crt --cert=$pki/healthcheck-client.crt \
  --key=$pki/healthcheck-client.key --command-timeout=1500s snapshot save "$incoming" 2>&1 >/dev/null) ||
  { printf '%s\n' "${said##*Error: }" >&2; exit 1; }
sum=$(sha256sum <"$incoming") || exit 1
status=$("$tools/etcdutl" snapshot status "$incoming" -w json) || exit 1
revision=$(sed -n 's/.*"revision":\([0-9]*\).*/\1/p' <<<"$status")
[ "$revision" ] || { echo "etcdutl tells no revision: $status" >&2; exit 1; }
name=$stem-r$revision.db
sync -- "$incoming" && mv -nT -- "$incoming" "$folder/$name" && [ ! -e "$incoming" ] && sync -- "$folder" || exit 1
echo "$name $(stat -c %s -- "$folder/$name") ${sum%% *} $revision"
