# shellcheck shell=bash
# ready.sh NODES: runs on a control plane from before its API server is there until so many nodes are Ready.
# Asks ten times a second, with as few processes as it can: they take from the two processors what is being measured.
conf=/etc/kubernetes/super-admin.conf keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
field() { sed -n "s/^ *$1: //p" $conf | base64 -d > "$keys/$1"; }
credentials() {
  touch -r $conf "$keys/read"
  for part in certificate-authority-data client-certificate-data client-key-data; do field $part; done
  url=$(sed -n 's/^ *server: //p' $conf)/api/v1/nodes
}
# A pause without a process.
mkfifo "$keys/never"
exec 3<> "$keys/never"
until
  [ ! $conf -nt "$keys/read" ] || credentials
  # The reason of the condition Ready when it is true.
  [ -n "${url:-}" ] && curl -sS --max-time 2 -o "$keys/nodes" --cacert "$keys/certificate-authority-data" \
    --cert "$keys/client-certificate-data" --key "$keys/client-key-data" "$url" 2> /dev/null &&
    [ "$(grep -c '"reason": "KubeletReady"' "$keys/nodes")" = "$1" ]
do
  read -rt 0.1 -u 3
done
date +%s%N
