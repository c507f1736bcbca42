# Of processes, for the scripts that this is put before.

# processes NAME: the numbers of the processes of that name that are the host's own, in $pids: those in the host's network,
# where static pods run. Pods of users may run the same programs, such as the control plane of a virtual cluster.
processes() {
  local p c
  pids=()
  for p in /proc/[0-9]*; do
    IFS= read -r c < "$p/comm" && [ "$c" = "${1:0:15}" ] && [ "$p/ns/net" -ef /proc/self/ns/net ] || continue
    [ "$c" != etcd ] || is_member "$p" || continue
    pids+=("${p#/proc/}")
  done 2>/dev/null
}

# is_member FOLDER: that etcd has the data or the port of the cluster's. Pods of users may have the host's network, too.
is_member() {
  local words word
  mapfile -d '' -t words < "$1/cmdline"
  # One that is about to end has none any more.
  [ ${#words[@]} != 0 ] || return 0
  for word in "${words[@]}"; do
    case $word in --data-dir=/var/lib/etcd | --listen-client-urls=*:2379*) return 0 ;; esac
  done
  return 1
}
