# await-stopped.sh NAME SECONDS: until no process of that name runs that is the host's own; its manifest is gone already. (After
# processes.sh.)
end=$((SECONDS+$2)) ask=$((SECONDS+15))
while [ $SECONDS -lt $end ]; do
  processes "$1"
  [ ${#pids[@]} != 0 ] || exit 0
  # A kubelet that was started while no API server answered ends no static pod (restore.sh).
  [ $SECONDS -lt $ask ] || { kill "${pids[@]}" 2>/dev/null; ask=$end; }
  sleep 0.1
done
echo "$1 still runs (process ${pids[0]}) after $2 s" >&2
exit 1
