# sysctl.sh MODULES SETTINGS [PODS]: load what can be loaded, then apply; a setting that this kernel does not have is no failure.
# Both are the texts of the files that do the same at each boot. Where there are to be PODS, it fails where traffic of their bridge
# passes no rules although the kernel has what that takes; one that does not have it is for others to tell. Loaded it may be
# without that setting, in a container that does not see it.
loaded=
while read -r m; do case $m in ''|'#'*) ;; *) loaded=$(modprobe "$m" 2>&1 </dev/null) ;; esac; done <<<"$1"
said=$(sysctl -q -e -p - 2>&1 <<<"$2")
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || { printf 'could not switch on IP forwarding: %s\n' "$said" >&2; exit 1; }
[ "${3-}" ] || exit 0
v=$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)
[ "$v" != 1 ] || exit 0
if [ "$v" ]; then
  printf 'could not have rules see the traffic of bridges, by which services answer pods: %s\n' "${said:-bridge-nf-call-iptables stays $v}" >&2
  exit 1
fi
[ ! -e /sys/module/br_netfilter ] && modinfo br_netfilter >/dev/null 2>&1 || exit 0
printf 'could not load br_netfilter, by which services answer pods: %s\n' "${loaded:-modprobe loaded nothing}" >&2
exit 1
