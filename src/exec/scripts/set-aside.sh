# set-aside.sh DATA ASIDE: moves etcd's data to a folder of its own; nothing is deleted. (After aside.sh.)
data=$1 aside=$2
[ -e "$data/member" ] || exit 0
to=$(new_place "$data" "$aside" etcd) && mv -T "$data/member" "$to/member" && sync "$to" && echo "$to"
