# Of static pods, for the scripts that this is put before; their manifests are named after them. (After processes.sh.)

manifest_of() { echo "/etc/kubernetes/manifests/$1.yaml"; }

# The revision that a manifest gives its process.
revision_in() { awk '/name: RSADM_REVISION$/ {getline; gsub(/["'\'']/, "", $2); print $2; exit}' "$1" 2>/dev/null; }

# carries PID REVISION: that process was started with that revision.
carries() { tr '\0' '\n' 2>/dev/null < "/proc/$1/environ" | grep -qx "RSADM_REVISION=$2"; }

# started PID: when, in seconds since 1970, one more or less (proc(5), stat).
started() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra stat <<< "${stat##*) }"
  echo $(($(awk '/^btime/ {print $2}' /proc/stat) + stat[19] / $(getconf CLK_TCK)))
}

# is_of_manifest PID NAME: it was started since its manifest was written, which carries the same revision when somebody edited it
# and it was written anew. By a clock that was set back since nobody can tell. etcd's is written anew once it has founded its
# cluster, under the same uid, by which the kubelet goes: its process stays.
is_of_manifest() {
  local written begun
  [ "$2" != etcd ] || return 0
  written=$(stat -c %Y "$(manifest_of "$2")" 2>/dev/null) && [ "$written" -le "$(date +%s)" ] || return 0
  begun=$(started "$1") && [ $((begun + 1)) -ge "$written" ]
}

# runs NAME REVISION [WHICH]: a process of that name runs with that revision, of the manifest as it now is (or one of which
# WHICH PID NAME is true); its number is then in $pid.
runs() {
  processes "$1"
  for pid in "${pids[@]}"; do carries "$pid" "$2" && "${3:-is_of_manifest}" "$pid" "$1" && return; done
  return 1
}

# outlived NAME: a process of that name, of a manifest before, has not ended yet. A kubelet that was started anew does not wait
# for its end before it starts the next.
outlived() {
  local p revision
  revision=$(revision_in "$(manifest_of "$1")")
  processes "$1"
  for p in "${pids[@]}"; do carries "$p" "$revision" || return 0; done
  return 1
}

# begun_at LOG: when its first line was written, in seconds since 1970; a container's log has that before each.
begun_at() {
  local at
  { read -r at _ < "$1"; date -d "$at" +%s; } 2>/dev/null
}

# stumbled NAME [STARTS]: the container that the manifest as it now is brought fell over its arguments, or was started that
# often in vain; what it said is then in $said. The log of the manifest before, whose container kubelet just ends, was begun
# before it; its folder is changed now, since with an ended container goes the log of the one before that.
stumbled() {
  local folder log since words
  since=$(stat -c %Y "$(manifest_of "$1")" 2>/dev/null) || return 1
  for folder in /var/log/pods/kube-system_"$1"-*_*/"$1"; do
    log=$(find "$folder" -name '*.log' -size +0 -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2)
    [ -n "$log" ] && [ "$(begun_at "$log")" -gt "$since" ] 2>/dev/null || continue
    words=$(grep -hoE '(Error: |error: )?(unknown (shorthand )?flag|flag provided but not defined|invalid argument "|unrecognized feature gate|invalid value ").*' "$log" 2>/dev/null | tail -n 1)
    if [ -n "$words" ]; then said="$1 says: $words"; return 0; fi
    [ -n "${2-}" ] && [ -e "$folder/$2.log" ] || continue
    said="$1 was started $2 times and ended each time; it said last: $(grep -v '^ *$' "$log" | tail -n 1 | cut -d' ' -f4- | cut -c1-300)"
    [[ $said == *'address already in use'* ]] && outlived "$1" || return 0
  done
  return 1
}

# lost_data SINCE: etcd ended because its data is not what the others know of it; its words are then in $said. Where that was
# before SINCE (seconds since 1970), it says nothing of data that may have been put back: then $stale is set instead.
lost_data() {
  local log at words
  stale=
  while read -r at log; do
    words=$(grep -hoE "$LOST" "$log" 2>/dev/null | tail -n 1 | cut -c1-300)
    [ -n "$words" ] || continue
    [ "${at%.*}" -ge "$1" ] || { stale=1; return 1; }
    said="etcd says: $words; its data is lost or damaged"
    [[ $words != *inconsistency* ]] || said="etcd says: $words; its data is not that of another member"
    [[ $words != *conflict* ]] || said="etcd says: $words; it has what the others have lost"
    return 0
  done < <(find /var/log/pods/kube-system_etcd-*_*/etcd -name '*.log' -size +0 -newer "$(manifest_of etcd)" -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 2)
  return 1
}
# raft, etcd's check against its peers, its log, its database, and a member that should have data and starts with none.
LOST='tocommit\([0-9]+\) is out of range \[lastIndex\([0-9]+\)\]|entry [0-9]+ conflict with committed entry|found data inconsistency with peers|wal(pb)?: crc mismatch|checksum error|panic: freepages|member [0-9a-f]+ has already been bootstrapped|failed to find database snapshot file|database file \([^)]*\) (of the backend is missing|does not match with snapshot)'
