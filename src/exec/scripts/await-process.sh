# await-process.sh NAME REVISION SECONDS: until the process of a static pod runs with that revision. An etcd that has failed
# on its data before gets one more try at once, in case the data is back. (After pods.sh.)
# The kubelet grants the one before 30 s to end.
end=$((SECONDS+$3)) turn=0 begun=$(date +%s) ask=$((SECONDS+45))
while [ $SECONDS -lt $end ]; do
  runs "$1" "$2" && exit 0
  if ((++turn % 20 == 0)); then
    # A kubelet that was started while no API server answered ends no static pod (restore.sh), and one that was started anew
    # does not wait for it: it has to go before the new one can have its place.
    if [ $SECONDS -ge $ask ] && outlived "$1"; then
      kill "${pids[@]}" 2>/dev/null; systemctl try-restart kubelet; ask=$end
    fi
    ! stumbled "$1" || { echo "$said" >&2; exit 1; }
    if [ "$1" = etcd ]; then
      ! lost_data "$begun" || { echo "$said" >&2; exit 1; }
      # A kubelet that starts anew forgets how long it meant to wait.
      [ -z "$stale" ] || [ -n "$tried" ] || { tried=1; systemctl try-restart kubelet; }
    fi
  fi
  sleep 0.05
done
echo "$1 did not start with its new files within $3 s" >&2
exit 1
