# shellcheck shell=bash disable=SC2154
# Only the plugins that cluster DNS uses: upstream's program brings the clients of three clouds, five times the code.
go_require "github.com/coredns/coredns@$version"
cp "$here/coredns/main.go" .
go_build -ldflags '-s -w' .
mv "$out/lab" "$out/coredns"
setcap cap_net_bind_service=+ep "$out/coredns" # its image does not run it as root
