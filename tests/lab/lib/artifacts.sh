# shellcheck shell=bash
# What hosts download: a mirror laid out like upstream's sites, and a registry with the images. Both are kept in the cache by version
# and made once: built from Go modules and Debian packages or, with ARTIFACTS=upstream, taken from the upstream sites.

# shellcheck source=SCRIPTDIR/../build/releases.sh
source "$LAB_DIR/build/releases.sh"

KUBERNETES=v1.37.2 CONTAINERD=v2.4.2 RUNC=v1.5.2 CNI_PLUGINS=v1.9.1 CRANE=v0.22.1
HAPROXY=3.0 BUSYBOX=1.37   # what Debian $DEBIAN has
DEBIAN=trixie
ARTIFACTS=${ARTIFACTS:-build}
MIRROR_ADDRESS=${MIRROR_ADDRESS:-10.77.0.1:8080}
REGISTRY_ADDRESS=${REGISTRY_ADDRESS:-10.77.0.1:5000}

# artifacts_build [KUBERNETES-VERSION…]: all of it, into the cache.
artifacts_build() {
  local version image images
  (($#)) || set -- "$KUBERNETES"
  mkdir -p "$CACHE"/{bin,mirror,registry,made}
  artifact_release crane "$CRANE"
  artifact_release containerd "$CONTAINERD"
  artifact_release runc "$RUNC"
  artifact_release cni-plugins "$CNI_PLUGINS"
  artifact_image "docker.io/library/haproxy:$HAPROXY"
  artifact_image "docker.io/library/busybox:$BUSYBOX"
  for version in "$@"; do
    artifact_release kubernetes "$version"
    # kubeadm itself names the images that belong to its version.
    images=$("$(artifact_programs kubernetes "$version")/kubeadm" config images list --kubernetes-version "$version")
    for image in $images; do artifact_image "$image" "$version"; done
  done
}

# Names and tags of all images in the registry.
artifacts_images() {
  find "$CACHE/registry/docker/registry/v2/repositories" -path '*/_manifests/tags/*/current/link' -printf '%P\n' |
    sed 's#/_manifests/tags/\(.*\)/current/link#:\1#' | sort
}

# The folder of the programs NAME VERSION. What upstream publishes is less than what is built, and takes no place of it.
artifact_programs() {
  local from=
  [[ $ARTIFACTS != upstream ]] || from=-upstream
  printf '%s\n' "$CACHE/bin/$1-$2$from"
}

# Programs NAME VERSION, built by build/NAME.sh.
artifact_program() {
  local folder
  folder=$(artifact_programs "$1" "$2")
  artifact "$1 $2" "$folder" "$(artifact_recipe make "$1.sh" "$1/main.go")" "$LAB_DIR/build/make" "$1" "$2" "$folder"
}

# Programs NAME VERSION and, for what hosts download, their place in the mirror.
artifact_release() {
  # shellcheck disable=SC2034  # release_of sets more than we need
  local name=$1 version=$2 how=fetch programs recipe folder archive sums
  programs=$(artifact_programs "$name" "$version")
  recipe=$(artifact_recipe release releases.sh)
  if [[ $ARTIFACTS == build ]]; then
    artifact_program "$name" "$version"
    [[ $name != crane ]] || return 0
    how=pack recipe+=$(stat -c %Y "$programs")
  fi
  release_of "$name" "$version"
  artifact "mirror: $name $version" "$CACHE/mirror/$folder" "$how $recipe" \
    "$LAB_DIR/build/release" "$how" "$name" "$version" "$programs" "$CACHE/mirror"
}

# artifact_image REFERENCE [KUBERNETES-VERSION]: into the registry, under its name without the host.
artifact_image() {
  local image=${1#*/} programs debian
  local name=${image%:*} tag=${image##*:}
  # Hosts download the programs that look after etcd's data.
  [[ $name != etcd ]] || artifact_release etcd "v${tag%-*}"
  if [[ $ARTIFACTS == upstream ]]; then
    artifact_push "$image" pull "$1"
    return
  fi
  artifact_program debian "$DEBIAN"
  debian=$(artifact_programs debian "$DEBIAN")
  programs=$(artifact_programs kubernetes "${2:-}")
  local base=(-- "$debian/base:/")
  case $name in
    library/haproxy)
      artifact_push "$image" make --user haproxy --cmd haproxy,-W,-db,-f,/usr/local/etc/haproxy/haproxy.cfg "${base[@]}" -- "$debian/haproxy:/" ;;
    library/busybox)
      artifact_push "$image" make --cmd sh "${base[@]}" -- "$debian/busybox:/" ;;
    kube-proxy)
      artifact_push "$image" make "${base[@]}" -- "$debian/iptables:/" -- "$programs/$name:/usr/local/bin/$name" ;;
    kube-*)
      artifact_push "$image" make "${base[@]}" -- "$programs/$name:/usr/local/bin/$name" ;;
    pause)
      artifact_push "$image" make --user 65535:65535 --entrypoint /pause -- "$programs/pause:/pause" ;;
    coredns/coredns)
      artifact_program coredns "$tag"
      programs=$(artifact_programs coredns "$tag")
      artifact_push "$image" make --user nonroot:nonroot --entrypoint /coredns "${base[@]}" -- "$programs/coredns:/coredns" ;;
    etcd)
      artifact_push "$image" make "${base[@]}" -- "$(artifact_programs etcd "v${tag%-*}"):/usr/local/bin" ;;
    *) die "no recipe for the image $1" ;;
  esac
}

artifact_push() {
  local image=$1 recipe source
  shift
  recipe="$(artifact_recipe image registry) ${*//"$CACHE"/}"
  for source in "$@"; do [[ $source != /*:* ]] || recipe+=$(stat -c %s,%Y "${source%%:*}"); done
  artifact "image $image" "$CACHE/registry/docker/registry/v2/repositories/${image%:*}/_manifests/tags/${image##*:}/current/link" "$recipe" \
    "$LAB_DIR/build/image" "$(artifact_programs crane "$CRANE")/crane" "$CACHE/registry" "$image" "$@"
}

# The files of build/ that decide what an artifact is, without their comments: those and the place of the checkout change nothing.
artifact_recipe() { (cd "$LAB_DIR/build" && cat "$@" 2> /dev/null) | sed '/^ *#/d'; }

# artifact WHAT OUTPUT RECIPE CMD…: runs CMD unless OUTPUT is there and was made from the same recipe. Labs that want the same thing at
# once wait for the first of them.
artifact() {
  local what=$1 output=$2 made="$CACHE/made/${1//[ :\/]/_}" key lock start=$EPOCHREALTIME
  key=$(printf '%s\n' "$3" | sha256sum)
  shift 3
  ! artifact_is_made || return 0
  exec {lock}> "$made.lock"
  flock "$lock"
  if ! artifact_is_made; then
    rm -f "$made"
    # File descriptor 9 is open as long as the command runs. It comes first: its reader writes to the screen, not to the log.
    # shellcheck disable=SC2094  # the log is read while it grows
    nice -n 5 "$@" 9> >(artifact_progress "$what" "$made.log" "$start") > "$made.log" 2>&1 {lock}>&- || {
      tail -n 20 "$made.log" >&2
      die "[build] $what failed after $(seconds_since "$start") s; its last lines are above, all of them in $made.log"
    }
    printf '%s\n' "$key" > "$made.new"
    mv "$made.new" "$made"
    say "[build] $what  $(seconds_since "$start") s"
  fi
  exec {lock}>&-
}

artifact_is_made() { [[ -e $output && -e $made && $(< "$made") == "$key" ]]; }

# Every half minute, how far a long step is.
artifact_progress() {
  local packages
  until read -rt 30 || (($? <= 128)); do
    packages=$(grep -c '^[a-z][^ :]*$' "$2" || true)
    ((packages)) && packages=", $packages packages compiled" || packages=
    say "[build] $1 …  $(seconds_since "$3") s$packages"
  done
}

mirror_start() {
  artifact_serve mirror "$MIRROR_ADDRESS" "$LAB_DIR/build/mirror" "$MIRROR_ADDRESS" "$CACHE/mirror" "$STATE/mirror-faults"
}

# Read-only: what nodes do changes nothing for other labs.
registry_start() { artifact_serve registry "$REGISTRY_ADDRESS" "$LAB_DIR/build/registry" "$REGISTRY_ADDRESS" "$CACHE/registry" true; }

mirror_stop() { artifact_stop mirror; }
registry_stop() { artifact_stop registry; }

# artifact_serve NAME HOST:PORT CMD…: CMD in the background, until it answers there.
artifact_serve() {
  local name=$1 address=$2 pid=$STATE/pids/$1
  shift 2
  mkdir -p "$STATE"/{pids,logs}
  # shellcheck disable=SC2016  # expanded by that shell, which becomes CMD
  inside setsid bash -c 'echo $$ > "$0"; exec "$@"' "$pid" "$@" > "$STATE/logs/$name.log" 2>&1 < /dev/null &
  wait_until 60 artifact_answers "${address%:*}" "${address#*:}" || die "the $name does not answer at $address; see $STATE/logs/$name.log"
}

artifact_answers() { inside bash -c "< /dev/tcp/$1/$2" 2> /dev/null; }

artifact_stop() {
  local pid=$STATE/pids/$1
  [[ -e $pid ]] || return 0
  kill "$(< "$pid")" 2> /dev/null || true
  wait_until 5 artifact_is_gone "$(< "$pid")" || kill -KILL "$(< "$pid")"
  rm -f "$pid"
}

artifact_is_gone() { ! kill -0 "$1" 2> /dev/null; }
