# shellcheck shell=bash disable=SC2154
# Three modules, of one version always.
go_require "go.etcd.io/etcd/server/v3@$version" "go.etcd.io/etcd/etcdctl/v3@$version" "go.etcd.io/etcd/etcdutl/v3@$version"
go_build -ldflags '-s -w' go.etcd.io/etcd/{server,etcdctl,etcdutl}/v3
mv "$out/server" "$out/etcd"
