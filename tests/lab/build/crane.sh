# shellcheck shell=bash disable=SC2154
# The program that puts images into the registry.
go_require "github.com/google/go-containerregistry@$version"
go_build -ldflags '-s -w' github.com/google/go-containerregistry/cmd/crane
