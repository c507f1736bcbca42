# keep.sh NAME FOLDER: a copy of the manifest of a static pod, for put-back.sh; only of one that its process runs with, so that
# what is put back has served. That it was written since says nothing against it: its mode was set, or it was copied. In memory,
# in the run's own folder: it is of use to this run only, and what others left is out of date. (After pods.sh.)
manifest=$(manifest_of "$1") kept=$2
find "${kept%/*}" -mindepth 1 -maxdepth 1 ! -name "${kept##*/}" -exec rm -rf {} + 2>/dev/null
rm -f "$kept/$1.yaml"
runs "$1" "$(revision_in "$manifest")" true || exit 0
install -d -m 700 "${kept%/*}" "$kept" && cp -p "$manifest" "$kept/$1.yaml"
