# dial.sh ADDRESS:PORT…: what comes of dialling each, a line each. At most 32 at once, whose own start counts, too.
dial() {
  local said status
  said=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' dial "${1%:*}" "${1##*:}" 2>&1)
  status=$?
  case $status:$said in
    0:*) said=open ;;
    124:* | 137:* | *'timed out'*) said=filtered ;;
    *refused*) said=refused ;;
    *) said="unreachable ${said##*: }" ;;
  esac
  printf '%s %s\n' "$1" "$said"
}
for target; do
  while [ "$(jobs -rp | wc -l)" -ge 32 ]; do wait -n; done
  dial "$target" &
done
wait
