# Of processes, for the scripts that this is put before.

# processes NAME: the numbers of the processes of that name that are the host's own, in $pids: those in the host's network,
# where static pods run. Pods of users may run the same programs, such as the control plane of a virtual cluster; and hosts
# may have a haproxy of their own.
processes() {
  local p c
  pids=()
  for p in /proc/[0-9]*; do
    IFS= read -r c < "$p/comm" && [ "$c" = "${1:0:15}" ] && [ "$p/ns/net" -ef /proc/self/ns/net ] || continue
    [ "$c" != etcd ] || is_member "$p" || continue
    [ "$c" != haproxy ] || grep -qs /etc/kubernetes/haproxy/ "$p/cmdline" || continue
    pids+=("${p#/proc/}")
  done 2>/dev/null
}

# is_member FOLDER: that etcd may have the data or the port of the cluster's. Pods of users may have the host's network, too:
# one that names another folder and other ports is theirs. Of one that does not say, which may have a file or variables
# instead, or is about to end and has no words any more, the worst is taken for true: nobody moves data under it.
is_member() {
  local words word folder='' port=''
  mapfile -d '' -t words < "$1/cmdline"
  for word in "${words[@]}"; do
    case $word in
      --data-dir=/var/lib/etcd* | --listen-client-urls=*:2379*) return 0 ;;
      --data-dir=*) folder=other ;;
      --listen-client-urls=*) port=other ;;
    esac
  done
  [ -z "$folder" ] || [ -z "$port" ]
}
