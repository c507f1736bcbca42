# agent.sh SHA256 PATH: rsadm was put at PATH; it runs on this host, and is recorded as ours.
sum=$1 path=$2 record=/var/lib/rsadm/installed/rsadm-agent
if ! words=$("$path" --version 2>&1); then
  echo "this build of rsadm does not run here: ${words%%$'\n'*} (a build for an older system, or a static one, would)" >&2
  rm -f -- "$path"
  exit 1
fi
umask 077
mkdir -p "${record%/*}" && printf '%s\n%s %s\n' "sha256:$sum" "$(stat -c '%s %Y' "$path")" "$path" >"$record.new" && sync "$record.new" && mv -f "$record.new" "$record"
