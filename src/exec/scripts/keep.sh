# keep.sh NAME: a copy of the manifest of a static pod, for put-back.sh; only of one that its process runs with, so that
# what is put back has served. In memory: it is of use to this run only. (After pods.sh.)
manifest=$(manifest_of "$1") kept=/run/rsadm-kept
rm -f "$kept/$1.yaml"
runs "$1" "$(revision_in "$manifest")" || exit 0
mkdir -p -m 700 $kept && cp -p "$manifest" "$kept/$1.yaml"
