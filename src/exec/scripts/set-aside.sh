# set-aside.sh DATA ASIDE: moves etcd's data to a folder of its own, named by the time, on the same file system: no byte is
# copied, and nothing is deleted. A data folder that is a disk of its own keeps it, in a folder that etcd does not look at.
data=$1 aside=$2
[ -e "$data/member" ] || exit 0
stamp=$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p -m 700 "$aside" || exit 1
[ "$(stat -c %d "$data")" = "$(stat -c %d "$aside")" ] || aside=$data/aside
to=$aside/etcd-$stamp
while [ -e "$to" ]; do to=$to+; done
mkdir -p -m 700 "$to" && mv -T "$data/member" "$to/member" && sync "$to" && echo "$to"
