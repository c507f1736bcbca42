# install.sh NAME URL CHECKSUM_URL TARGET [MEMBER…]: fetch, verify, put in place, record. Nothing half-done is ever in place.
set -u
name=$1 url=$2 sums=$3 target=$4; shift 4
umask 022
mkdir -p /var/lib/rsadm/installed
# Under a name of this process; those of killed ones, which took nothing away themselves, go.
for d in /var/lib/rsadm/fetch.*; do p=${d##*/fetch.}; [ -e "/proc/${p%%.*}" ] || rm -rf "$d"; done
d=$(mktemp -d "/var/lib/rsadm/fetch.$$.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT
fetch() {
  fetch_to "$1" "$2" 2> "$d/said" || { printf 'could not fetch %s: %s\n' "$1" "$(tail -n 1 "$d/said")" >&2; return 1; }
}
fetch_to() {
  if command -v curl >/dev/null; then curl -fsSL --retry 3 --retry-connrefused --connect-timeout 10 --speed-limit 1024 --speed-time 30 -o "$2" "$1"
  else wget -q --tries=3 --timeout=30 -O "$2" "$1"; fi
}
file=${url##*/}
fetch "$sums" "$d/sums" || exit 1
want=$(awk -v f="$file" 'NF==1{print $1; exit} $2==f||$2=="*"f||$2=="./"f{print $1; exit}' "$d/sums")
[ ${#want} = 64 ] || { echo "no SHA-256 of $file in $sums" >&2; exit 1; }
for try in 1 2; do
  fetch "$url" "$d/$file" || exit 1
  have=$(sha256sum < "$d/$file"); have=${have%% *}
  [ "$have" = "$want" ] && break
  [ $try = 2 ] && { echo "checksum of $url is $have, not $want as $sums says" >&2; exit 1; }
done
# A program for another kind of processor is told here, not by what fails to start. What is no ELF file is not looked at.
fits() {
  [ "$(head -c 4 "$1" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || return 0
  case $(uname -m):$(od -An -j18 -N2 -tu2 "$1" | tr -d ' ') in
  x86_64:62 | aarch64:183) ;;
  x86_64:* | aarch64:*) echo "${1##*/} of $url is for another kind of processor than this host's, $(uname -m)" >&2; return 1 ;;
  esac
}
# A mirror filled from the wrong folder has the wrong version under a checksum that holds. The program is asked where it
# will be, since the folder that it was fetched to may be mounted noexec. CNI plugins and containerd's other programs are not.
is_version() {
  local ask said status want
  case ${2##*/} in
    kubelet | containerd | runc) ask=--version ;;
    kubectl) ask='version --client' ;;
    *) return 0 ;;
  esac
  [[ $url =~ .*/v([0-9]+\.[0-9]+\.[0-9]+)/ ]] && want=${BASH_REMATCH[1]} || return 0
  said=$(timeout 60 "$1" $ask 2>&1 < /dev/null); status=$?
  if [ $status = 126 ] || [ $status = 127 ]; then
    echo "${2##*/} of $url cannot run on this host: ${said:-exit status $status}" >&2
  elif [[ ! " $said " =~ [^0-9.]"$want"[^0-9.] ]]; then
    said=${said%%$'\n'*}
    echo "${2##*/} of $url is not v$want; it says: ${said:-nothing, exit status $status}" >&2
  else return 0; fi
  return 1
}
# Under a name of this process, since one whose connection was lost may still be at the same; what killed ones left goes.
place() {
  local new=$2.rsadm-new.$$ old
  for old in "$2".rsadm-new.*; do [ -e "/proc/${old##*.}" ] || rm -f "$old"; done
  fits "$1" || return 1
  mkdir -p "${2%/*}" && chmod 0755 "$1" && mv -f "$1" "$new" || return 1
  is_version "$new" "$2" || { rm -f "$new"; return 1; }
  mv -f "$new" "$2" || return 1
  # Where SELinux is, it still has the label of the folder that it was fetched to, and systemd starts nothing that has that.
  ! command -v restorecon >/dev/null || restorecon -F "$2" 2>/dev/null
  printf '%s\n' "$(stat -c '%s %Y %n' "$2")" >> "$d/record"
}
# Where files are about to appear, for a reset after a run that died in between. Where nothing appeared the note of this run goes.
mkdir -p /var/lib/rsadm/placing
note=/var/lib/rsadm/placing/$name noted=
[ ! -e "$note" ] || noted=yes
give_up() { [ -n "$noted" ] || [ "$(wc -l < "$d/record")" != 1 ] || rm -f "$note"; exit 1; }
if [ $# = 0 ]; then printf '0 0 %s\n' "$target"; else printf "0 0 $target/%s\n" "${@##*/}"; fi > "$note"
printf '%s\n' "$url" > "$d/record"
if [ $# = 0 ]; then place "$d/$file" "$target" || give_up
else
  mkdir "$d/x" && tar -xf "$d/$file" -C "$d/x" --no-same-owner "$@" || { echo "$file lacks what we need of it" >&2; give_up; }
  for m in "$@"; do place "$d/x/$m" "$target/${m##*/}" || give_up; done
fi
sync "$d/record" 2>/dev/null
mv -f "$d/record" "/var/lib/rsadm/installed/$name" && rm -f "$note"
