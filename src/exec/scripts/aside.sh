# For the scripts that move etcd's data out of the way.

# renames FROM TO: whether what is in the one folder gets into the other by a new name alone. What can be linked there can: not
# across disks, nor across mounts of one disk, and either folder may be a link to another disk. A move that copies would leave a
# part of the data that looks like all of it, should it break off.
renames() {
  local probe code
  probe=$(mktemp "$1/.rsadm-probe.XXXXXX") || return 1
  ln "$probe" "$2/" 2>/dev/null; code=$?
  rm -f "$probe" "$2/${probe##*/}"
  return $code
}

# new_place DATA ASIDE WHAT: makes a folder of its own for what lies in DATA, named by the time, and says which. No byte is
# copied to there: a data folder that is a disk of its own keeps it, in a folder that etcd does not look at.
# shellcheck disable=SC2174  # folders above may have any mode: nobody gets through the new one
new_place() {
  local base=$2 to
  mkdir -p -m 700 "$base" || return 1
  renames "$1" "$base" || base=$1/aside
  to=$base/$3-$(date -u +%Y%m%dT%H%M%SZ)
  while [ -e "$to" ]; do to=$to+; done
  mkdir -p -m 700 "$to" && printf '%s\n' "$to"
}
