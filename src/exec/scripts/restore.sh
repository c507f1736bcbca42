# restore.sh VERB …: what a host does of a restore. Every verb may be repeated: it sees for itself what is done already, so
# that an interrupted restore is just run again. Nothing is deleted but what the restore itself made; old data is moved.
#   $state/token      which restore is under way         $state/manifests/  manifests that wait outside the kubelet's sight
#   $state/old        where the old data went, or none   $state/placed      the new data is where etcd looks for it
#   $state/restored   the new data is whole, in $new
#   $state/members    the hosts of the new members, by which a rerun goes, too
#   $state/over       its data takes writes: from here on nothing but tidying up is left; "undone" where the old data does
#   $state/undoing    it is being rolled back            $state/undone      what it made here is aside again
#   $state/bare       there was nothing of a cluster here before it
#   $ended            restores that were over, for hosts that missed that: TOKEN, or TOKEN undone where it was rolled back
# (After processes.sh and aside.sh.)
umask 077
export LC_ALL=C
state=/var/lib/rsadm/restore ended=/var/lib/rsadm/restores.ended aside=/var/lib/rsadm/aside data=/var/lib/etcd manifests=/etc/kubernetes/manifests
identity=/var/lib/rsadm/cluster.json pki=/etc/kubernetes/pki/etcd
# Where copies are worked on, and where the new data comes to be.
work=$state new=$state/new
verb=$1; shift
die() { printf '%s\n' "$*" >&2; exit 1; }

runs() { processes "$1"; [ ${#pids[@]} != 0 ]; }

# carry FILE FOLDER: moves it. They may be of two file systems, between which mv leaves a part where it breaks off, and there is
# one such file: it has its name there once it is whole. No kubelet reads files that begin with a dot.
carry() {
  local new=$2/.rsadm-${1##*/}
  [ -f "$1" ] || return 0
  cp -p "$1" "$new" && sync "$new" && mv -f "$new" "$2/${1##*/}" && rm -f "$1" && return
  rm -f "$new"
  exit 1
}

# Out of the kubelet's sight, and gone as a process.
fence() {
  local name=$1 end=$((SECONDS + 90)) kill=$((SECONDS + 5)) ask=$((SECONDS + 15))
  mkdir -p $state/manifests
  carry $manifests/$name.yaml $state/manifests
  while runs "$name"; do
    [ $SECONDS -lt $end ] || die "$name still runs 90 s after its manifest was taken away; is the kubelet running? (systemctl status kubelet)"
    # An API server waits for requests under way, up to the 30 s that the kubelet grants; it has nothing that could be lost.
    [ $name != kube-apiserver ] || [ $SECONDS -lt $kill ] || kill -9 "${pids[@]}" 2>/dev/null
    # A kubelet that was started while no API server answered ends no static pod (kubelet.go, deletePod: "skipping delete
    # because sources aren't ready yet"). It starts none again whose manifest is gone either.
    [ $SECONDS -lt $ask ] || { kill "${pids[@]}" 2>/dev/null; ask=$end; }
    sleep 0.1
  done
}

# Says whether the kubelet sees it now.
unfence() {
  carry $state/manifests/$1.yaml $manifests
  [ ! -f $manifests/$1.yaml ] || echo here
}

# Writes a file whole or not at all: PATH TEXT.
note() { printf '%s\n' "$2" > "$1.new" && sync "$1.new" && mv "$1.new" "$1" || exit 1; }

# ended TOKEN [undone]: remembers how it ended, also once $state is gone.
ended() { grep -qsxF -e "$*" $ended || note $ended "$(tail -n 50 $ended 2>/dev/null; echo "$*")"; }

# head_of_log FOLDER: the beginning of the log of the data in it, which tells whose it is.
head_of_log() {
  local wal
  for wal in "$1"/member/wal/*.wal; do head -c 96 "$wal" 2>/dev/null | base64 -w0; break; done
}

# is_here TOKEN
is_here() { [ "$(cat $state/token 2>/dev/null)" = "$1" ]; }

# snapshot_is SHA256
snapshot_is() { [ -f $state/snapshot.db ] && sha256sum < $state/snapshot.db | grep -q "^$1"; }

# Where the old data is, as far as it was moved; where it is not there any more nothing can be rolled back.
old_data() {
  old=$(cat $state/old 2>/dev/null)
  [ "$old" ] && [ "$old" != none ] && [ ! -e "$old/member" ] || return 0
  beside_data
  # It was noted where it goes, and it has not gone; or it has come back already.
  [ -e $data/member ] && { [ ! -f $state/placed ] && [ -e $new/member ] || [ -f $state/undone ]; } && return
  die "the old data is not at $old, where it was set aside, so nothing can be put back here; is what it lies on mounted?"
}

# What the restore changed is changed back; the data that it made is kept aside, too. Where no data was moved, etcd may serve with
# the others that this restore has not reached.
roll_back() {
  local to
  old_data
  # What is made anew where it is wanted again makes room for what comes back.
  rm -rf $state/tools $state/tools.new $state/piece.* $state/snapshot.new $state/copy
  if [ "$old" ]; then
    fence etcd
    touch $state/undoing || exit 1
  fi
  if [ "$old" = none ] || { [ "$old" ] && [ -e "$old/member" ]; }; then
    [ ! -e $data/member ] || { to=$(new_place $data $aside undone) && mv -T $data/member "$to/member"; } || exit 1
    touch $state/undone || exit 1
    [ "$old" = none ] || { mv -T "$old/member" $data/member && rmdir "$old"; } || exit 1
  fi
  if [ -s $state/identity ]; then
    cmp -s $state/identity $identity || { cp -p $state/identity $identity.new && mv $identity.new $identity; } || exit 1
  elif [ -s $state/token ]; then
    # It had no record before, as a host that kubeadm built; of one on which it has not begun the record is its own.
    rm -f $identity
  fi
  rm -f $state/placed $state/restored $state/old && rm -rf $data/rsadm-new && rm -f $state/undoing $state/undone
}

# An image that a killed run left open.
close_image() {
  local m
  for m in $work/image.*; do
    [ ! -d "$m" ] || { ctr -n k8s.io images unmount --rm "$m" || umount "$m"; rmdir "$m"; } >/dev/null 2>&1
  done
}

# etcd's own programs, out of an etcd image that containerd has: the one that the host's member runs, by its manifest. In the
# middle of an upgrade there is a newer one, too, whose data the others would not take.
tools() {
  [ ! -x $work/tools/etcdutl ] || return 0
  local images image named scratch code
  images=$(ctr -n k8s.io images ls -q 2>/dev/null | grep -E '/etcd:[^@]*$' | sort -V)
  named=$(cat $state/manifests/etcd.yaml $manifests/etcd.yaml 2>/dev/null | sed -n 's/^ *\(- \)\{0,1\}image: *"\{0,1\}\([^" ]*\).*/\2/p' | head -n 1)
  image=$(printf '%s\n' "$images" | grep -xF -e "${named:-none}") || image=$(printf '%s\n' "$images" | tail -n 1)
  [ "$image" ] || die "containerd has no etcd image, whose etcdutl it takes"
  close_image
  rm -rf $work/tools.new; mkdir -p $work/tools.new && scratch=$(mktemp -d $work/image.XXXXXX) || exit 1
  ctr -n k8s.io images mount "$image" "$scratch" >/dev/null 2>$work/said || die "could not open the image $image: $(tail -n 1 $work/said)"
  cp "$scratch"/usr/local/bin/{etcdctl,etcdutl} $work/tools.new/ && cp "$scratch/usr/local/bin/etcd" $work/tools.new/etcd-replay
  code=$?
  close_image
  [ $code = 0 ] && mv -T $work/tools.new $work/tools || die "the image $image lacks etcdutl"
}

ctl() { $work/tools/etcdctl --endpoints https://127.0.0.1:12379 --cacert $pki/ca.crt --cert $pki/healthcheck-client.crt --key $pki/healthcheck-client.key "$@"; }

# The new data gets to where etcd looks for it by its name alone, so that a part of it never lies there.
beside_data() { renames $state $data || new=$data/rsadm-new; }

# What etcd says in its log when it falls over its data.
fatal() {
  local line
  line=$(grep -aE '"level":"(fatal|panic)"' $work/replay.log | tail -n 1)
  [ "$line" ] || line=$(grep -aE '^(panic|fatal error|unexpected fault)' $work/replay.log | head -n 1)
  printf '%s' "${line:-it said nothing}" | sed 's/.*"msg":"\([^"]*\)".*"error":"\([^"]*\)".*/\1: \2/; s/.*"msg":"\([^"]*\)".*/\1/' | cut -c1-300
}

# leader: whether the etcd that runs here, $still, knows a leader (yes, no): with one it may serve, whatever its clients meet. One
# that stands still or that nobody can dial serves nobody; one that does not answer may be busy, and nobody knows.
leader() {
  local process said='' runs=''
  for process in "${still[@]}"; do ! grep -qs '^State:.[^Tt]' "/proc/$process/status" || runs=1; done
  [ "$runs" ] || { echo no; return; }
  said=$(timeout 15 bash -c '{ exec 3<>/dev/tcp/127.0.0.1/2381; } 2>/dev/null || { echo nobody; exit; }
    printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; sed -n "s/^etcd_server_has_leader //p" <&3' 2>/dev/null)
  case $said in nobody | 0) echo no ;; 1) echo yes ;; *) echo unknown ;; esac
}

# is_unled: the etcd that runs here, $still, has no leader, and says so; else it dies.
is_unled() {
  case $(leader) in
  yes) die "etcd runs there and has a leader" ;;
  unknown) die "etcd runs there, and does not say whether it has a leader" ;;
  esac
}

# copy SECONDS: of the data as it is now. What a process writes is whole as long as it stands still: of a member that runs without
# a leader, and serves nobody. Its kubelet bears that for more than a minute, and then starts it anew.
copy() {
  local limit=$1
  processes etcd
  still=("${pids[@]}")
  if [ ${#still[@]} != 0 ]; then
    is_unled
    [ "$limit" -lt 60 ] || limit=60
    trap 'kill -CONT "${still[@]}"' EXIT HUP
    kill -STOP "${still[@]}"
  fi
  mkdir -m 700 $work/copy && timeout "$limit" cp -aL --reflink=auto $data/member $work/copy/ || die "the data could not be copied within $limit s"
  if [ ${#still[@]} != 0 ]; then
    kill -CONT "${still[@]}"
    trap - EXIT HUP
  fi
}

# alone SECONDS: applies the write-ahead log of a copy of the data to it, by a member that knows nobody, on loopback; $pid. Its
# answer is 3 where it ends over the data; its words are then in $said.
alone() {
  local need free end try limit=$1
  # One that an interrupted run has left.
  pkill -x etcd-replay && sleep 1
  rm -rf $work/copy
  need=$(du -skL $data/member | awk '{print $1 * 2}') free=$(df -Pk $work | awk 'NR == 2 {print $4}')
  [ "$free" -gt "$need" ] || die "a copy of the data needs $need KiB in /var/lib/rsadm, which has $free"
  # A kubelet starts what ends again and again, also now.
  for try in 1 2 3; do
    rm -rf $work/copy
    copy "$limit"
    processes etcd
    [ "${pids[*]}" != "${still[*]}" ] || break
    [ $try != 3 ] || die "etcd was started anew while its data was copied, three times"
  done
  # Besides, a snapshot of it has ten minutes.
  timeout -k 5 $(($1 + 605)) $work/tools/etcd-replay --name replay --data-dir $work/copy --force-new-cluster --listen-client-urls https://127.0.0.1:12379 --advertise-client-urls https://127.0.0.1:12379 \
    --listen-peer-urls https://127.0.0.1:12380 --initial-advertise-peer-urls https://127.0.0.1:12380 --initial-cluster replay=https://127.0.0.1:12380 \
    --peer-client-cert-auth --peer-trusted-ca-file $pki/ca.crt --peer-cert-file $pki/peer.crt --peer-key-file $pki/peer.key \
    --client-cert-auth --trusted-ca-file $pki/ca.crt --cert-file $pki/server.crt --key-file $pki/server.key --quota-backend-bytes 17179869184 </dev/null >$work/replay.log 2>&1 &
  pid=$! end=$((SECONDS + $1))
  # Its health is bad as long as an alarm is on that came along with the data.
  until ctl --command-timeout 2s get rsadm >/dev/null 2>&1; do
    if ! kill -0 $pid 2>/dev/null; then
      said=$(fatal)
      # It fell over the host, not over the data.
      case $said in *'bind: '* | */etc/kubernetes/pki/* | *'no space left on device'*) die "$said" ;; esac
      return 3
    fi
    [ $SECONDS -lt $end ] || { kill $pid; die "it did not start within $1 s"; }
    sleep 0.1
  done
}

# number WORDS: what the copy's log has behind them.
number() { sed -n "s/.*$1:\([0-9]*\).*/\1/p" $work/replay.log | tail -n 1; }

# How many entries at the end of its log the copy has dropped: it did not know that a quorum had agreed on them (bootstrap.go,
# CommitedEntries).
undecided() {
  local entries
  entries=$(number '"discarding uncommitted WAL entries".*"number-of-discarded-entries"')
  printf 'undecided %s\n' "${entries:-0}"
}

# How far the copy was before it was made to stand alone, which took entries and an election of its own.
far() {
  local index applied
  index=$(number '"forcing restart member".*"wal-commit-index"')
  if [ "$index" ]; then
    # What is in its database was agreed on, too, and is kept; the log may not have been told yet when the process died.
    applied=$(number '"restore consistentIndex".*"index"')
    [ "${applied:-0}" -le "$index" ] || index=$applied
  else
    # An older etcd tells it with the entries that take the others out of the membership.
    index=$(number '"forcing restart member".*"commit-index"')
    index=$((${index:-0} - $(grep -c '"msg":"removed member"' $work/replay.log)))
  fi
  undecided
  # Those that it took out of the membership, which etcd names one by one (membership/cluster.go, RemoveMember), and itself.
  printf 'members %s\n' $((1 + $(grep -c '"msg":"removed member"' $work/replay.log)))
  printf 'index %s\nstatus %s\n' "$index" "$(ctl endpoint status -w json)"
  # Reads the whole database, which may take longer than a call usually may.
  printf 'hash %s\n' "$(ctl --command-timeout 120s endpoint hashkv -w json)"
}

# Once it is over nothing of it is done again: its data takes writes.
case $verb in
begin | fence | receive | place | replay | roll-back) [ ! -f $state/over ] || die "that restore is over, and only tidied up" ;;
esac

case $verb in
begin) # TOKEN HOST…: says which restore is under way here, and begins this one, with members on these hosts, where none is.
  (umask 022; mkdir -p ${state%/*})
  mkdir -p $state
  [ -s $state/token ] || [ -e $data/member ] || [ -s $identity ] || [ -e $manifests/etcd.yaml ] || [ -e $manifests/kube-apiserver.yaml ] || touch $state/bare
  # Which cluster the data is of that makes room: for who rolls back.
  [ -s $state/token ] || [ ! -s $identity ] || cp -p $identity $state/identity || exit 1
  [ -s $state/token ] || { note $state/members "${*:2}"; note $state/token "$1"; }
  cat $state/token ;;
under-way) # Which restore is under way here, whether its data is in place, whether it is over, and which ones were over.
  [ ! -s $state/token ] || echo "token $(cat $state/token)"
  [ ! -s $state/members ] || echo "members $(cat $state/members)"
  [ ! -f $state/placed ] || echo placed
  [ ! -f $state/bare ] || echo bare
  [ ! -f $state/over ] || echo over
  [ ! -f $ended ] || sed 's/^/ended /' $ended ;;
fence) fence "$1" ;;
unfence) unfence "$1" ;;
over) # TOKEN [undone]: what is in place now stays.
  is_here "$1" || exit 0
  ended "$@"
  printf %s "${2-}" > $state/over && sync $state/over $state ;;
ended) # TOKEN [undone]: the same of a restore whose end this host has missed: what is in place here is not what stays.
  ! is_here "$1" || ended "$@" ;;
settle) # Of a restore that is over: what has its data starts again, and says whether there is an API server. Old data that
  # missed it stays out of the kubelet's sight.
  if [ -f $state/over ] || [ -f $state/placed ] || { [ ! -e $data/member ] && [ ! -f $state/manifests/etcd.yaml ]; }; then
    unfence etcd >/dev/null
    unfence kube-apiserver
  fi ;;
undo) # Of a restore that was rolled back: so it is here, too, and what was there before starts again. Where that is gone nothing starts.
  if [ "$(cat $state/over 2>/dev/null)" != undone ]; then
    for name in kube-apiserver etcd; do fence $name; done
    (old_data) || exit 0
    roll_back
  fi
  unfence etcd >/dev/null
  unfence kube-apiserver ;;
room) # SHA256: takes away what an interrupted delivery or restore has left, which is made anew; then says what is here of this
  # one (nothing, delivered, restored), and how much room there is for the rest.
  [ -f $state/snapshot.db ] || rm -f $state/piece.* $state/snapshot.new
  [ -f $state/restored ] || rm -rf $state/new $data/rsadm-new
  here=nothing
  ! snapshot_is "$1" || here=delivered
  [ $here = nothing ] || [ ! -f $state/restored ] || here=restored
  mkdir -p ${state%/*}
  # Programs, marks and etcd's own files are some dozens. A file system that counts none has no end of them.
  for p in ${state%/*} $data; do
    few=$(df -Pi -- $p 2>/dev/null | awk 'NR == 2 && $2 > 0 && $4 < 64 {print $4}')
    [ -z "$few" ] || die "no room in $p: it has inodes for $few more files, and 64 are needed (df -i $p)"
  done
  echo $here
  df -PB1 -- ${state%/*} $data 2>/dev/null
  true ;;
receive) # SHA256: puts the pieces together, each gone before the next: there is room for one copy. One that a crash left in part is none.
  if ! snapshot_is "$1"; then
    rm -f $state/snapshot.db
    : > $state/snapshot.new || exit 1
    for piece in $state/piece.*; do
      cat "$piece" >> $state/snapshot.new && rm -f "$piece" || exit 1
    done
    have=$(sha256sum < $state/snapshot.new); have=${have%% *}
    [ "$have" = "$1" ] || { rm -f $state/snapshot.new; die "the snapshot arrived with another checksum: $have, not $1"; }
    sync $state/snapshot.new && mv $state/snapshot.new $state/snapshot.db || exit 1
  fi ;;
has) # SHA256
  snapshot_is "$1" && echo yes || echo no ;;
place) # NAME PEER-URL INITIAL-CLUSTER TOKEN BUMP
  [ ! -f $state/undoing ] || die "it is being rolled back here, which comes first: rsadm etcd restore --rollback"
  [ ! -f $state/placed ] || exit 0
  tools
  mkdir -p $data || exit 1
  beside_data
  if [ ! -f $state/restored ]; then
    rm -rf $new
    said=$($state/tools/etcdutl snapshot restore $state/snapshot.db --data-dir $new --name "$1" --initial-advertise-peer-urls "$2" \
      --initial-cluster "$3" --initial-cluster-token "$4" --bump-revision "$5" --mark-compacted 2>&1) || die "etcdutl does not restore it: $(printf '%s' "$said" | tail -n 1)"
    sync $new/member/snap/db && touch $state/restored
  fi
  if runs etcd; then die "etcd runs again; its manifest must be out of the way before data is exchanged"; fi
  # Before the new data comes, or a rerun would take it for old.
  if [ ! -s $state/old ]; then
    if [ -e $data/member ]; then to=$(new_place $data $aside etcd) || exit 1; else to=none; fi
    note $state/old "$to"
  fi
  old=$(cat $state/old)
  if [ "$old" != none ] && [ ! -e "$old/member" ]; then mv -T $data/member "$old/member" || exit 1; fi
  if [ -e $new/member ]; then
    chown -R "$(stat -Lc %u:%g $data)" $new/member && mv -T $new/member $data/member || exit 1
  fi
  rm -rf $data/rsadm-new
  [ -e $data/member/snap/db ] || die "the new data is not in $data"
  # Where SELinux is, it still has the label of the folder that it was made in.
  ! command -v restorecon >/dev/null || restorecon -RF $data/member 2>/dev/null
  sync $data && touch $state/placed ;;
replay) # [database]: a snapshot of the data with its write-ahead log applied; or of the database alone, as it lies there.
  if [ ! -f $state/snapshot.db ]; then
    tools
    rm -f $state/snapshot.new
    if [ "${1-}" = database ]; then
      # What a member sends as a snapshot: the file and its checksum.
      cp -L $data/member/snap/db $state/snapshot.new || die "the database could not be copied"
      sum=$(sha256sum < $state/snapshot.new) || exit 1
      printf "$(printf %s "${sum%% *}" | sed 's/../\\x&/g')" >> $state/snapshot.new || die "the database could not be copied"
    else
      alone 1500 || die "its log could not be replayed: $said"
      ctl --command-timeout 600s snapshot save $state/snapshot.new >/dev/null 2>&1; code=$?
      kill $pid; wait $pid 2>/dev/null
      [ $code = 0 ] || die "no snapshot of the replayed data could be taken"
      rm -rf $state/copy
    fi
    sync $state/snapshot.new && mv $state/snapshot.new $state/snapshot.db || exit 1
  fi
  sha256sum < $state/snapshot.db | cut -d' ' -f1
  stat -c %s $state/snapshot.db
  [ "${1-}" = database ] || [ ! -f $work/replay.log ] || undecided ;;
diagnose) # What there is to recover from, without touching it.
  [ -e $data/member ] && echo data
  echo "writer $(head_of_log $data)"
  runs etcd && echo running
  echo end ;;
was) # The same of the data that made room.
  old=$(cat $state/old 2>/dev/null)
  head_of_log "${old:-none}" ;;
sizes) # Bytes of the database, and of all of the data.
  stat -Lc %s $data/member/snap/db 2>/dev/null || echo 0
  du -skL $data/member 2>/dev/null | awk '{print $1 * 1024}' ;;
measure) # SECONDS: how far data is whose etcd does not serve, by a copy that is started alone; or what is wrong with it.
  work=/var/lib/rsadm/measure
  away() { pkill -x etcd-replay && sleep 1; close_image; rm -rf --one-file-system $work; }
  away
  mkdir -p $work && trap away EXIT || exit 1
  # In a shell of its own: why it could not be measured is an answer, too.
  words=$( (tools; alone "$1" || { code=$?; printf '%s' "$said"; exit $code; }; far > $work/far) 2>&1 ); code=$?
  # One that was started meanwhile, and went on.
  processes etcd
  still=("${pids[@]}")
  ran_on=$(is_unled 2>&1) || { echo "unknown $ran_on"; exit 0; }
  case $code in
  0) cat $work/far ;;
  3) printf 'damaged %s\n' "$words" | head -n 1
    # Its log may be what is damaged, and the database whole: its pages are looked at, each.
    printf 'database %s\n' "$(timeout "$1" $work/tools/etcdutl snapshot status $data/member/snap/db -w json 2>/dev/null)" ;;
  *) printf 'unknown %s\n' "$words" | head -n 1 ;;
  esac ;;
relist) # Who has watched the old data asks anew: the kubelet restarts these; other containers go on.
  for name in kube-controller-manager kube-scheduler kube-proxy; do
    ! runs $name || kill "${pids[@]}" 2>/dev/null
  done
  [ "$(systemctl is-active kubelet)" != active ] || systemctl restart kubelet ;;
roll-back) roll_back ;;
end) # Gone at once, so that no part of it is taken for a restore under way. What still waits here is of a host that missed the end:
  # its API server has no member of its own any more, and its etcd is not started with old data. Says where that one's manifest is.
  close_image
  rm -rf $data/rsadm-new
  if [ -d $state/manifests ]; then
    unfence kube-apiserver >/dev/null
    if [ -f $state/manifests/etcd.yaml ]; then
      kept=$aside/manifests-$(cat $state/token 2>/dev/null)
      mkdir -p $kept || exit 1
      carry $state/manifests/etcd.yaml $kept
      echo $kept/etcd.yaml
    fi
  fi
  [ ! -e $state ] || { rm -rf $state.gone && mv -T $state $state.gone && rm -rf --one-file-system $state.gone; } ;;
esac
