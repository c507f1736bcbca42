# shellcheck shell=bash
# Where upstream publishes the programs, and the checksums in which format.

# release_of NAME VERSION: sets $folder (host and path of the URL), $archive, and $sums (empty: one FILE.sha256 each, with nothing
# but the checksum); $archive is empty where the programs themselves are published.
# shellcheck disable=SC2034  # for the caller
release_of() {
  local name=$1 version=$2
  archive='' sums=''
  case $name in
    kubernetes)
      folder=dl.k8s.io/release/$version/bin/linux/amd64 ;;
    containerd)
      folder=github.com/containerd/containerd/releases/download/$version
      archive=containerd-${version#v}-linux-amd64.tar.gz sums=$archive.sha256sum ;;
    runc)
      folder=github.com/opencontainers/runc/releases/download/$version
      archive=runc.amd64 sums=runc.sha256sum ;;
    cni-plugins)
      folder=github.com/containernetworking/plugins/releases/download/$version
      archive=cni-plugins-linux-amd64-$version.tgz sums=$archive.sha256 ;;
    etcd)
      folder=github.com/etcd-io/etcd/releases/download/$version
      archive=etcd-$version-linux-amd64.tar.gz sums=SHA256SUMS ;;
    crane)
      folder=github.com/google/go-containerregistry/releases/download/$version
      archive=go-containerregistry_Linux_x86_64.tar.gz sums=checksums.txt ;;
  esac
}

# The programs of Kubernetes that hosts download; the others come as images.
kubernetes_downloads=(kubelet kubectl kubeadm)
