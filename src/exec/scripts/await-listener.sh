# await-listener.sh SECONDS ADDRESS:PORT…: until one of them takes connections.
end=$((SECONDS+$1)); shift
while [ $SECONDS -lt $end ]; do
  for target; do
    timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' dial "${target%:*}" "${target##*:}" 2>/dev/null && exit 0
  done
  sleep 0.1
done
printf 'nothing listens on %s\n' "$*" >&2
exit 1
