# Where old data of etcd goes, for the scripts that this is put before.

# place_aside DATA ASIDE NAME: makes a folder for it, named by the time, and prints its path. It is on the same file system as the
# data, so that no byte is copied: a data folder that is a disk of its own keeps it, in a folder that etcd does not look at.
place_aside() {
  local data=$1 base=$2 to
  mkdir -p -m 700 "$base" || return
  [ "$(stat -c %d "$data")" = "$(stat -c %d "$base")" ] || base=$data/aside
  to=$base/$3-$(date -u +%Y%m%dT%H%M%SZ)
  while [ -e "$to" ]; do to=$to+; done
  mkdir -p -m 700 "$to" && printf '%s\n' "$to"
}
