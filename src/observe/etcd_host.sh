# etcd_host.sh: what this host says of the etcd that should run on it, one fact a line. Changes nothing, and shows no key.
# (After processes.sh.)
f() { printf '%s\n' "$*"; }
[ -e /var/lib/rsadm/before/cluster ] && f prepared
f kubelet "$(systemctl is-active kubelet 2>/dev/null)"
[ -f /etc/kubernetes/manifests/etcd.yaml ] && f manifest
room=
[ -f /var/lib/rsadm/cluster.json ] && f identity "$(cat /var/lib/rsadm/cluster.json)"
[ -e /var/lib/etcd/member ] && f data && room=$(df -PB1 /var/lib/etcd/member/wal 2>/dev/null | awk 'NR == 2 {print $4}') && f room "$room"
# A disk of its own that nobody has mounted, as with nofail: etcd begins anew in the empty folder below.
[ ! -r /etc/fstab ] || while read -r d p _ o _; do
  case $d,${p%/},$o in
  '#'* | *noauto*) ;;
  *,/var/lib/etcd,* | *,/var/lib/etcd/member,*) grep -q " ${p%/} " /proc/mounts || f unmounted "${p%/}" ;;
  esac
done < /etc/fstab
p=/var/lib/rsadm/restore
# Once it is over and no manifest waits, what is left of it stands in nobody's way.
if [ -s $p/token ] && { [ ! -f $p/over ] || compgen -G "$p/manifests/*.yaml" >/dev/null; }; then
  v=begun; [ ! -f $p/placed ] || v=placed
  if [ -f $p/over ]; then v=over; [ "$(cat $p/over)" != undone ] || v=undone; fi
  f restoring $v "$(cat $p/token)"
fi
processes etcd
up=${pids[0]-}
if [ "$up" ]; then
  f running
  # Of its manifest, which may have been edited since, only the kubelet knows whether it is what runs.
  tr '\0' '\n' < "/proc/$up/cmdline" 2>/dev/null | sed -nE 's/^--(heartbeat-interval|election-timeout|listen-client-urls|quota-backend-bytes)=/flag \1 /p'
fi
processes kube-apiserver
for pid in "${pids[@]}"; do
  f etcd-servers "$(tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | sed -n 's/^--etcd-servers=//p')"
done
f clock "$(date +%s)"
# Certificates are public; the authority's tells whether others of it can still be had.
for n in ca server peer; do
  c=/etc/kubernetes/pki/etcd/$n.crt
  [ ! -f $c ] || f cert $n.crt "$(sed -n '/BEGIN CERT/,/END CERT/{/BEGIN/d;/END/q;p}' $c | tr -d '\n')"
done
# The kubelet keeps the logs of a container's last two lives and numbers them.
log=$(ls -t /var/log/pods/kube-system_etcd-*/etcd/*.log 2>/dev/null | head -n 1)
if [ "$log" ]; then
  n=${log##*/}; f restarts "${n%.log}"
  tail -n 1 "$log" | cut -c1-2000 | sed 's/^/last /'
  # A life that has only begun has not complained yet, and a panic repeats what was said before it, without the error. Where
  # that comes from may be longer than all the rest. (The names of these files have no spaces.)
  # shellcheck disable=SC2046
  v=$(tail -qn 400 $(ls -tr /var/log/pods/kube-system_etcd-*/etcd/*.log | tail -n 2) | grep -aE '"level":"(dpanic|panic|fatal)"| F (panic|fatal error):|permanently removed' | awk '{said = $0; if (sub(/^.* F panic: /, "", said) && index(v, "\"msg\":\"" said "\"")) next; v = $0} END {sub(/,"stacktrace":".*/, "}", v); print v}' | cut -c1-2000)
  [ ! "$v" ] || f complaint "$v"
  # From whom its data differs, by the last life that tells it. (etcd 3.7 has no ID there, but where it dialled them.)
  if [[ $v == *'data inconsistency with peers'* ]]; then
    for p in $(ls -t /var/log/pods/kube-system_etcd-*/etcd/*.log | head -n 2); do
      v=$(tail -n 400 "$p" | sed -n 's/.*"found different hash values from remote peer".*"remote-peer-endpoints":\[\(.*\)\],"remote-peer-revision".*/\1/p' | tr ',' '\n' | tr -d '" ' | sort -u)
      [ ! "$v" ] || { printf '%s\n' "$v" | sed 's/^/differs /'; break; }
    done
  fi
fi
# Where kubeadm's and our members have their metrics. A member that hangs must not hold up the rest.
if [ "$up" ]; then
  url=http://127.0.0.1:2381/metrics
  { curl -fsS --noproxy '*' -m 0.7 $url || env -u http_proxy wget -qO- -T 1 -t 1 $url; } 2>/dev/null |
    grep -E '^(etcd_server_leader_changes_seen_total|process_start_time_seconds|etcd_(disk_wal_fsync|disk_backend_commit)_duration_seconds_bucket|etcd_network_peer_round_trip_time_seconds_bucket)' |
    sed 's/^/metric /'
  # Since when nothing came from another member, in ms: the latest of what its connections have, on which etcd says every two
  # seconds that it is there. etcd's own metrics take minutes to notice a link that swallows everything.
  ss -Htin state established '( sport = :2380 or dport = :2380 )' 2>/dev/null |
    awk '/^[0-9]/{p=$4; sub(/:[0-9]+$/,"",p); gsub(/[][]|::ffff:/,"",p); next}
      match($0,/lastrcv:[0-9]+/){m=substr($0,RSTART+8,RLENGTH-8)+0; if(!(p in a)||m<a[p]) a[p]=m}
      END{for(p in a) print "metric heard{From=\"" p "\"} " a[p]}'
fi
p=/etc/rsadm/backup.json
to=
if [ -f $p ]; then
  f backup-since "$(stat -c %Y $p)"
  to=$(sed -n 's/^  "target": "\(.*\)",*$/\1/p' $p)
  f backup-to "$to"
  # For how long a run is under way, or is being ended, by a clock that nobody sets.
  v=$(systemctl show -p ActiveState -p ExecMainStartTimestampMonotonic rsadm-backup.service 2>/dev/null)
  case $v in
  *activating*Monotonic=[1-9]* | *Monotonic=[1-9]*activating*)
    v=${v##*Monotonic=}; v=${v%%[!0-9]*}; read -r n _ < /proc/uptime
    f backup-runs $((${n%.*} - v / 1000000))
    ;;
  esac
fi
p=/var/lib/rsadm/backup-state.json
if [ -f $p ]; then
  IFS= read -r v < $p; f backup "$v"
  # A folder of another machine that hangs must not hold up the rest, and nothing is known of it then.
  case $to$v in
  /*'"file":"'*)
    v=${v#*'"file":"'}
    case $(LC_ALL=C timeout -s KILL 0.3 stat -L "$to/${v%%'"'*}" 2>&1) in *': No such file or directory') f backup-gone ;; esac
    ;;
  esac
fi
# Old data counts where there is too little room (`LEAST_ROOM` in disks.rs), on the same disk. Whose disk hangs must not hold up
# the end, and nothing is known of it then: nobody waits for whoever looks there, whom not even KILL ends.
if [ "${room:-67108864}" -lt 67108864 ]; then
  for p in /var/lib/rsadm/aside /var/lib/etcd/aside; do
    IFS=$'\t' read -r -t 0.3 n _ < <(
      exec 2>/dev/null
      [ "$(stat -c %d $p)" = "$(stat -c %d /var/lib/etcd/member/wal)" ] && LC_ALL=C timeout -s KILL 1 du -sB1 $p
    ) && f aside "$n $p"
  done
fi
f end
