# shellcheck shell=bash disable=SC2154
# Without the snapshotters that need a file system or a device of their own: the nodes use overlayfs.
module=github.com/containerd/containerd/v2
go_require "$module@$version"
go_build -tags 'no_btrfs no_zfs no_devmapper no_aufs' -ldflags "-s -w -X $module/version.Version=$version -X $module/version.Package=$module" \
  "$module/cmd/containerd" "$module/cmd/containerd-shim-runc-v2" "$module/cmd/ctr"
