# etcd-data.sh FOLDER USER: etcd's data folder, of nobody but that system user, who is made where there is none. The files in
# it stay root's: etcd runs as root, since the keys that it reads are root's alone.
folder=$1 user=$2
mine=/var/lib/rsadm/user-$user # for wipe.sh

# The tools that make users keep the former user database beside it; that copy stays what it was.
make_user() {
  local f code
  for f in /etc/{passwd,group,shadow,gshadow}-; do [ ! -f $f ] || cp -a $f $f.rsadm || return; done
  mkdir -p ${mine%/*} && echo "passwd shadow $(grep -q "^$user:" /etc/group || echo group gshadow)" > $mine || return
  if command -v systemd-sysusers >/dev/null; then
    printf 'u %s - "data of etcd" %s\n' "$user" "$folder" | systemd-sysusers -
  else
    useradd --system --user-group --no-create-home --home-dir "$folder" --shell "$(command -v nologin || echo /bin/false)" "$user"
  fi >&2
  code=$?
  for f in /etc/{passwd,group,shadow,gshadow}-; do mv -f $f.rsadm $f 2>/dev/null || rm -f $f; done
  return $code
}

id "$user" >/dev/null 2>&1 || make_user || { echo "could not make the system user $user; make one by hand" >&2; exit 1; }
install -d -m 700 -o "$user" -g "$user" "$folder"
