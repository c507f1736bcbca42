# await-stopped.sh COMM SECONDS: until no process of that name runs.
comm=$1; end=$((SECONDS+$2))
while [ $SECONDS -lt $end ]; do
  found=
  for p in /proc/[0-9]*; do
    IFS= read -r c < "$p/comm" 2>/dev/null && [ "$c" = "$comm" ] && found=${p#/proc/} && break
  done 2>/dev/null
  [ -n "$found" ] || exit 0
  sleep 0.1
done
echo "$comm still runs (process $found) after $2 s" >&2
exit 1
