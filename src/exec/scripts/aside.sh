# For the scripts that move etcd's data out of the way.

# new_place DATA ASIDE WHAT: makes a folder of its own for what lies in DATA, named by the time, and says which. On the same file
# system, so that no byte is copied: a data folder that is a disk of its own keeps it, in a folder that etcd does not look at.
# shellcheck disable=SC2174  # folders above may have any mode: nobody gets through the new one
new_place() {
  local base=$2 to
  mkdir -p -m 700 "$base" || return 1
  [ "$(stat -c %d "$1")" = "$(stat -c %d "$base")" ] || base=$1/aside
  to=$base/$3-$(date -u +%Y%m%dT%H%M%SZ)
  while [ -e "$to" ]; do to=$to+; done
  mkdir -p -m 700 "$to" && printf '%s\n' "$to"
}
