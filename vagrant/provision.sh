#!/bin/sh
# Makes a fresh Debian or Ubuntu machine fit for rsadm, which itself uses no package manager. Safe to run again.
# Run as root; the Vagrantfile runs it in each machine, and it does for any other host too.
set -eu

# Command, and the package that brings it.
needed='
awk mawk
bash bash
curl curl
find findutils
flock util-linux
grep grep
gzip gzip
ip iproute2
mount mount
nft nftables
sed sed
sha256sum coreutils
sudo sudo
sysctl procps
tar tar
'

missing=$(printf '%s' "$needed" | while read -r command package; do
  [ -z "$command" ] || command -v "$command" > /dev/null || printf ' %s' "$package"
done)
if [ -n "$missing" ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  # shellcheck disable=SC2086  # several packages
  apt-get install -qy --no-install-recommends $missing
fi

# The kubelet does not start with swap on. What a container sees is its host's swap, which is not ours to switch off.
if ! systemd-detect-virt --quiet --container; then
  swapoff -a
  sed -i '/^[^#].*[[:space:]]swap[[:space:]]/s/^/# off for the kubelet: /' /etc/fstab
fi
