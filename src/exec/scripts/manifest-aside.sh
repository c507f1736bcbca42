# manifest-aside.sh MANIFEST KEPT: takes a manifest away that somebody else wrote, and keeps it; one of rsadm's goes.
manifest=$1 kept=$2
[ -e "$manifest" ] || exit 0
# shellcheck disable=SC2174  # folders above may have any mode
if ! grep -q RSADM_REVISION "$manifest"; then
  mkdir -p -m 700 "${kept%/*}" && cp -p "$manifest" "$kept.new" && sync "$kept.new" && mv -f "$kept.new" "$kept" || exit 1
fi
rm -f "$manifest"
