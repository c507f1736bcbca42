# sysctl.sh MODULES SETTINGS: load what can be loaded, then apply; a setting that this kernel does not have is no failure.
# Both are the texts of the files that do the same at each boot.
while read -r m; do case $m in ''|'#'*) ;; *) modprobe "$m" 2>/dev/null ;; esac; done <<<"$1"
said=$(sysctl -q -e -p - 2>&1 <<<"$2")
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || { printf 'could not switch on IP forwarding: %s\n' "$said" >&2; exit 1; }
