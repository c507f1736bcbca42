# await-stopped.sh NAME SECONDS: until no process of that name runs that is the host's own. (After processes.sh.)
end=$((SECONDS+$2))
while [ $SECONDS -lt $end ]; do
  processes "$1"
  [ ${#pids[@]} != 0 ] || exit 0
  sleep 0.1
done
echo "$1 still runs (process ${pids[0]}) after $2 s" >&2
exit 1
