# shellcheck shell=bash disable=SC2154
# Trees of Debian $version's programs for images: each program at its own path, with exactly the libraries that it needs.
root=$work/root
mmdebstrap --variant=extract --include=haproxy,nftables,iptables,conntrack,netbase,busybox-static "$version" "$root"
for link in bin sbin lib lib64; do [[ -e $root/$link ]] || ln -s "usr/$link" "$root/$link"; done
loader=/lib64/ld-linux-x86-64.so.2

# take TREE PROGRAM…
take() {
  local tree=$1 file
  shift
  {
    printf '%s\n' "$loader" "$@"
    for file in "$@"; do chroot "$root" "$loader" --list "$file" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'; done
  } | sort -u | while read -r file; do install -D "$root$file" "$tree$file"; done
}

# What every image has.
install -d "$out/base/etc"
install -d -m 1777 "$out/base/tmp"
cp "$root"/etc/{protocols,services} "$out/base/etc/"
printf '%s\n' root:x:0:0::/root:/sbin/nologin haproxy:x:99:99::/:/sbin/nologin nonroot:x:65532:65532::/:/sbin/nologin > "$out/base/etc/passwd"
printf '%s\n' root:x:0: haproxy:x:99: nonroot:x:65532: > "$out/base/etc/group"
echo 'hosts: files dns' > "$out/base/etc/nsswitch.conf"

# haproxy's own image has the program here.
take "$work/haproxy" /usr/sbin/haproxy
install -D "$work/haproxy/usr/sbin/haproxy" "$out/haproxy/usr/local/sbin/haproxy"
rm -r "$work/haproxy/usr/sbin"
cp -a "$work/haproxy/." "$out/haproxy/"

# What kube-proxy runs. iptables speaks to nf_tables, as on the nodes: both must see the same rules.
modules=("$root"/usr/lib/x86_64-linux-gnu/xtables/*.so)
take "$out/iptables" /usr/sbin/{nft,conntrack,xtables-nft-multi} "${modules[@]#"$root"}"
for name in {iptables,ip6tables}{,-save,-restore}; do ln -s xtables-nft-multi "$out/iptables/usr/sbin/$name"; done

install -D "$root/usr/bin/busybox" "$out/busybox/bin/busybox"
chroot "$root" /usr/bin/busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "$out/busybox/bin/$name"; done
