# restore.sh VERB …: what a host does of a restore. Every verb may be repeated: it sees for itself what is done already, so
# that an interrupted restore is just run again. Nothing is deleted but what the restore itself made; old data is moved.
#   $state/token      which restore is under way         $state/manifests/  manifests that wait outside the kubelet's sight
#   $state/old        where the old data went            $state/placed      the new data is where etcd looks for it
umask 077
export LC_ALL=C
state=/var/lib/rsadm/restore aside=/var/lib/rsadm/aside data=/var/lib/etcd manifests=/etc/kubernetes/manifests identity=/var/lib/rsadm/cluster.json
pki=/etc/kubernetes/pki/etcd
verb=$1; shift
die() { printf '%s\n' "$*" >&2; exit 1; }

runs() {
  local p c
  for p in /proc/[0-9]*; do
    { IFS= read -r c < "$p/comm"; } 2>/dev/null && [ "$c" = "$1" ] && [ "$(tr '\0' ' ' 2>/dev/null < "$p/cmdline")" ] && return 0
  done
  return 1
}

# Out of the kubelet's sight, and gone as a process.
fence() {
  local name=$1 comm=${1:0:15} end=$((SECONDS + 90)) kill=$((SECONDS + 5))
  mkdir -p $state/manifests
  [ ! -f $manifests/$name.yaml ] || mv -f $manifests/$name.yaml $state/manifests/ || exit 1
  while runs "$comm"; do
    [ $SECONDS -lt $end ] || die "$name still runs 90 s after its manifest was taken away; is the kubelet running? (systemctl status kubelet)"
    # An API server waits for requests under way, up to the 30 s that the kubelet grants; it has nothing that could be lost.
    [ $name != kube-apiserver ] || [ $SECONDS -lt $kill ] || pkill -9 -x $name
    sleep 0.1
  done
}

# Says whether the kubelet sees it now.
unfence() {
  [ ! -f "$state/manifests/$1.yaml" ] || mv -f "$state/manifests/$1.yaml" $manifests/ || exit 1
  [ ! -f $manifests/$1.yaml ] || echo here
}

# etcd's own programs, out of an etcd image that containerd has.
tools() {
  [ ! -x $state/tools/etcdutl ] || return 0
  local image scratch
  image=$(ctr -n k8s.io images ls -q 2>/dev/null | grep -E '/etcd:[^@]*$' | sort -V | tail -n 1)
  [ "$image" ] || die "containerd has no etcd image, whose etcdutl it takes"
  rm -rf $state/tools.new; mkdir -p $state/tools.new && scratch=$(mktemp -d $state/image.XXXXXX) || exit 1
  ctr -n k8s.io images mount "$image" "$scratch" >/dev/null 2>$state/said || die "could not open the image $image: $(tail -n 1 $state/said)"
  cp "$scratch"/usr/local/bin/{etcdctl,etcdutl} $state/tools.new/ && cp "$scratch/usr/local/bin/etcd" $state/tools.new/etcd-replay
  local code=$?
  ctr -n k8s.io images unmount --rm "$scratch" >/dev/null 2>&1 || umount "$scratch"; rmdir "$scratch"
  [ $code = 0 ] && mv -T $state/tools.new $state/tools || die "the image $image lacks etcdutl"
}

# On the same file system where that can be, so that no byte is copied.
new_place() {
  local base=$aside to
  mkdir -p $base $data
  [ "$(stat -c %d $data)" = "$(stat -c %d $base)" ] || base=$data/aside
  to=$base/$1-$(date -u +%Y%m%dT%H%M%SZ)
  while [ -e "$to" ]; do to=$to+; done
  mkdir -p "$to"
  printf '%s' "$to"
}

case $verb in
begin) # TOKEN: says which restore is under way here, and begins this one where none is.
  mkdir -p $state
  # Which cluster the data is of that makes room: for who rolls back.
  [ -s $state/token ] || [ ! -s $identity ] || cp -p $identity $state/identity || exit 1
  [ -s $state/token ] || printf '%s\n' "$1" > $state/token
  cat $state/token ;;
under-way) [ ! -s $state/token ] || cat $state/token ;;
fence) fence "$1" ;;
unfence) unfence "$1" ;;
receive) # SHA256: puts the pieces together.
  if [ ! -f $state/snapshot.db ]; then
    cat $state/piece.* > $state/snapshot.new || exit 1
    have=$(sha256sum < $state/snapshot.new); have=${have%% *}
    rm -f $state/piece.*
    [ "$have" = "$1" ] || { rm -f $state/snapshot.new; die "the snapshot arrived with another checksum: $have, not $1"; }
    mv $state/snapshot.new $state/snapshot.db
  fi ;;
has) # SHA256
  [ -f $state/snapshot.db ] && sha256sum < $state/snapshot.db | grep -q "^$1" && echo yes || echo no ;;
place) # NAME PEER-URL INITIAL-CLUSTER TOKEN BUMP
  [ ! -f $state/placed ] || exit 0
  tools
  if [ ! -f $state/restored ]; then
    rm -rf $state/new
    said=$($state/tools/etcdutl snapshot restore $state/snapshot.db --data-dir $state/new --name "$1" --initial-advertise-peer-urls "$2" \
      --initial-cluster "$3" --initial-cluster-token "$4" --bump-revision "$5" --mark-compacted 2>&1) || die "etcdutl does not restore it: $(printf '%s' "$said" | tail -n 1)"
    sync $state/new/member/snap/db && touch $state/restored
  fi
  if runs etcd; then die "etcd runs again; its manifest must be out of the way before data is exchanged"; fi
  if [ -e $data/member ] && [ ! -s $state/old ]; then
    to=$(new_place etcd) && printf '%s\n' "$to" > $state/old.new && mv $state/old.new $state/old || exit 1
  fi
  if [ -s $state/old ] && [ ! -e "$(cat $state/old)/member" ]; then mv -T $data/member "$(cat $state/old)/member" || exit 1; fi
  owner=$(stat -c %u:%g $data)
  if [ -e $state/new/member ]; then
    chown -R "$owner" $state/new/member
    # A data folder that is a disk of its own takes a copy first, so that the last step is a rename.
    if [ "$(stat -c %d $data)" != "$(stat -c %d $state)" ]; then
      rm -rf $data/member.new && cp -a $state/new/member $data/member.new && sync $data/member.new/snap/db && rm -rf $state/new && mv -T $data/member.new $data/member || exit 1
    else
      mv -T $state/new/member $data/member || exit 1
    fi
  fi
  [ -e $data/member/snap/db ] || die "the new data is not in $data"
  sync $data && touch $state/placed
  cat $state/old 2>/dev/null || true ;;
replay) # ADDRESS: applies the write-ahead log of a copy of the data to it, alone, and takes a snapshot of that.
  if [ ! -f $state/snapshot.db ]; then
    tools
    # One that an interrupted run has left.
    pkill -x etcd-replay && sleep 1
    rm -rf $state/copy $state/snapshot.new
    need=$(du -sk $data/member | awk '{print $1 * 2}') free=$(df -Pk $state | awk 'NR == 2 {print $4}')
    [ "$free" -gt "$need" ] || die "a copy of the data needs $need KiB in /var/lib/rsadm, which has $free"
    mkdir -m 700 $state/copy && cp -a --reflink=auto $data/member $state/copy/ || exit 1
    $state/tools/etcd-replay --name replay --data-dir $state/copy --force-new-cluster --listen-client-urls https://127.0.0.1:12379 --advertise-client-urls https://127.0.0.1:12379 \
      --listen-peer-urls https://127.0.0.1:12380 --initial-advertise-peer-urls https://127.0.0.1:12380 --initial-cluster replay=https://127.0.0.1:12380 \
      --peer-client-cert-auth --peer-trusted-ca-file $pki/ca.crt --peer-cert-file $pki/peer.crt --peer-key-file $pki/peer.key \
      --client-cert-auth --trusted-ca-file $pki/ca.crt --cert-file $pki/server.crt --key-file $pki/server.key --quota-backend-bytes 17179869184 </dev/null >$state/replay.log 2>&1 &
    pid=$!
    ctl() { $state/tools/etcdctl --endpoints https://127.0.0.1:12379 --cacert $pki/ca.crt --cert $pki/healthcheck-client.crt --key $pki/healthcheck-client.key "$@"; }
    for _ in $(seq 600); do
      kill -0 $pid 2>/dev/null || die "its log could not be replayed: $(grep -aE '"level":"(fatal|panic)"|^panic' $state/replay.log | tail -n 1 | cut -c1-500)"
      ctl --command-timeout 2s endpoint health >/dev/null 2>&1 && break
      sleep 0.1
    done
    ctl --command-timeout 600s snapshot save $state/snapshot.new >/dev/null 2>&1; code=$?
    kill $pid; wait $pid 2>/dev/null
    [ $code = 0 ] || die "no snapshot of the replayed data could be taken"
    rm -rf $state/copy
    mv $state/snapshot.new $state/snapshot.db
  fi
  sha256sum < $state/snapshot.db | cut -d' ' -f1
  stat -c %s $state/snapshot.db ;;
diagnose) # What there is to recover from, without touching it.
  [ -e $data/member ] && echo data
  runs etcd && echo running
  echo end ;;
relist) # Who has watched the old data asks anew: the kubelet restarts these two; containers go on.
  for p in /proc/[0-9]*; do
    { IFS= read -r c < "$p/comm"; } 2>/dev/null || continue
    case $c in kube-controller | kube-scheduler | kube-proxy) kill "${p#/proc/}" 2>/dev/null ;; esac
  done
  [ "$(systemctl is-active kubelet)" != active ] || systemctl restart kubelet ;;
roll-back) # What the restore changed is changed back; the data that it made is kept aside, too.
  fence etcd
  if [ -s $state/old ]; then
    old=$(cat $state/old)
    if [ -e "$old/member" ]; then
      [ ! -e $data/member ] || { to=$(new_place undone) && mv -T $data/member "$to/member"; } || exit 1
      mv -T "$old/member" $data/member && rmdir "$old" || exit 1
    fi
  elif [ -f $state/placed ]; then
    to=$(new_place undone) && mv -T $data/member "$to/member" || exit 1
  fi
  [ ! -s $state/identity ] || { cp -p $state/identity $identity.new && mv $identity.new $identity; } || exit 1
  rm -f $state/placed $state/old ;;
end) rm -rf $state ;;
esac
