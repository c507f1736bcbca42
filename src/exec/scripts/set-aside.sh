# set-aside.sh DATA ASIDE: moves etcd's data to a folder of its own; nothing is deleted. (After aside.sh.)
data=$1
[ -e "$data/member" ] || exit 0
to=$(place_aside "$data" "$2" etcd) && mv -T "$data/member" "$to/member" && sync "$to" && echo "$to"
