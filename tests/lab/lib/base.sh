# shellcheck shell=bash
# The root tree that all nodes of one kind share, below an overlay each. Made once, kept in the cache, never written to again.

BASE_PACKAGES=(
  systemd systemd-sysv dbus openssh-server sudo
  iproute2 iptables nftables iputils-ping conntrack ethtool socat
  kmod procps util-linux mount ca-certificates curl
)

# base_tree SUITE RUNTIME: the folder of that tree in the cache; RUNTIME is "none", or "containerd" for Debian's own.
base_tree() { printf '%s/base/%s-%s\n' "$CACHE" "$1" "$(base_recipe "$@" | sha256sum | cut -c1-12)"; }

# All that decides what is in the tree.
base_recipe() {
  printf '%s\n' "$@" "$(base_packages "$@")"
  cat "$LAB_DIR"/node/*
}

base_packages() {
  local packages=("${BASE_PACKAGES[@]}")
  # With it containerd unpacks images in a fifth of the processor time. Trixie's nodes show that nothing needs it.
  [[ $1 == trixie ]] || packages+=(isal)
  [[ $2 == none ]] || packages+=(containerd runc containernetworking-plugins)
  (IFS=,; printf '%s\n' "${packages[*]}")
}

# Makes the tree unless it is there; two labs that want the same one wait for each other.
base_build() {
  local suite=$1 runtime=$2 tree lock
  tree=$(base_tree "$suite" "$runtime")
  [[ ! -d $tree ]] || return 0
  mkdir -p "$CACHE/base"
  exec {lock}> "$tree.lock"
  flock "$lock"
  if [[ ! -d $tree ]]; then
    local what="Debian $suite tree"
    [[ $runtime == none ]] || what+=" with $runtime"
    step base "$what" base_make "$suite" "$runtime" "$tree"
  fi
  exec {lock}>&-
}

# The mirror that this machine's own apt uses; nothing where its sources are of another kind, and mmdebstrap then takes its default.
debian_mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true; }

# In a mount namespace of its own, so that an interrupted build leaves no mounts in the tree.
base_make() {
  local suite=$1 runtime=$2 tree=$3
  # shellcheck disable=SC2064  # its value now
  trap "rm -rf --one-file-system '$tree.part'" EXIT
  rm -rf --one-file-system "$tree.part"
  unshare --mount mmdebstrap --mode=root --variant=minbase --include="$(base_packages "$suite" "$runtime")" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="sh '$LAB_DIR/node/prepare' \"\$1\"" \
    "$suite" "$tree.part" "${LAB_DEBIAN_MIRROR:-$(debian_mirror)}"
  mv "$tree.part" "$tree"
}
