# shellcheck shell=bash disable=SC2154
# Static with cgo, as upstream releases it: it enters namespaces in C before the Go runtime starts.
go_require "github.com/opencontainers/runc@$version"
CGO_ENABLED=1 go_build -tags 'seccomp netgo osusergo' -ldflags '-s -w -linkmode external -extldflags -static' github.com/opencontainers/runc
