# Tells what is on this host, one fact a line: a word, then its values. Changes nothing, and shows no key.
# Every run waits for it on every host: processes are started for many things at once, and builtins do the rest.
exec 2>/dev/null
f() { printf '%s\n' "$*"; }
r() { [ -r "$1" ] && IFS= read -r v < "$1" && printf '%s' "$v"; }
. /etc/os-release
f hostname "$(uname -n)"
f machine-id "$(r /etc/machine-id)"
[ -e /run/systemd/container ] || f product "$(r /sys/class/dmi/id/product_uuid)"
f boot-id "$(r /proc/sys/kernel/random/boot_id)"
f arch "$(uname -m)"
f kernel "$(uname -r)"
f os "${ID:-linux} ${VERSION_ID:-unknown}"
f time "$(date +%s%N)"
f cpus "$(nproc)"
f memory "$(awk '/^MemTotal/{print $2*1024}' /proc/meminfo)"
f swap "$(awk 'NR>1' /proc/swaps | wc -l)"
[ -d /run/systemd/system ] && f systemd "$(systemctl --version | awk 'NR==1{print $2}')"
if IFS= read -r v < /sys/fs/cgroup/cgroup.controllers; then f cgroup 2; f controllers "$v"
else f cgroup 1; f controllers "$(awk 'NR>1&&$4==1{printf "%s ",$1}' /proc/cgroups)"; fi
for t in tar gzip sha256sum mount ip ss awk sed grep find sysctl systemctl timeout setsid curl wget nft iptables flock; do command -v $t >/dev/null || f missing $t; done
grep -qw overlay /proc/filesystems && f feature overlay
[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] && f feature br_netfilter
for m in overlay br_netfilter; do modinfo $m >/dev/null && f loadable $m; done
# Each may be a disk of its own; of those that are still to come it is the nearest folder above.
d='/var/lib /usr /var/lib/etcd /var/lib/containerd /var/lib/kubelet' found=()
for p in ${d/usr/usr\/local}; do until [ -d "$p" ]; do p=${p%/*}; done; found+=("$p"); done
df -PB1 "${found[@]}" | awk -v d="$d" 'BEGIN{split(d, n)} NR>1{print "disk", n[NR-1], $4, $2}'
ip -o addr show | awk '{split($4,a,"/"); print "address",a[1]}'
ss -Hltnp | awk '{n=split($4,a,":"); p="-"; if (match($0,/users:\(\("[^"]+/)) p=substr($0,RSTART+9,RLENGTH-9); print "port",a[n],p}' | sort -u
containerd --version | awk '{print "containerd",$3}'
# An empty line ends a unit.
network_pid=0 backup=
while IFS='=' read -r key value; do
  case $key in
    MainPID) pid=$value ;;
    Description) about=$value ;;
    Id) unit=${value%.service} ;;
    ActiveState) active=$value ;;
    UnitFileState) enabled=$value ;;
    '') f unit "$unit" "$active" "$enabled"
        [ "$unit" != rsadm-network ] || network_pid=$pid
        case $unit$about in rsadm-backup.timer*RSADM_REVISION=*) backup=${about##*RSADM_REVISION=} ;; esac ;;
  esac
done < <(systemctl show -p MainPID,Id,ActiveState,UnitFileState,Description kubelet containerd rsadm-network rsadm-backup.timer && echo)
# What each process of ours was started with, from the process itself.
for p in /proc/[0-9]*; do
  IFS= read -r c < "$p/comm" || continue
  case $c in etcd|kube-apiserver|kube-controller|kube-scheduler|kubelet|haproxy|containerd) ;; *) continue ;; esac
  mapfile -d '' -t words < "$p/cmdline" || continue
  [ ${#words[@]} != 0 ] || continue
  v=- servers=
  for word in "${words[@]}"; do case $word in --etcd-servers=*) servers=${word#*=} ;; esac; done
  words=(); mapfile -d '' -t words < "$p/environ"
  for word in "${words[@]}"; do case $word in RSADM_REVISION=*) v=${word#*=} ;; esac; done
  f process "$c" "$v" "$servers"
done
[ "${network_pid:-0}" != 0 ] && f process rsadm-network "$(tr '\0' '\n' < "/proc/$network_pid/environ" | sed -n 's/^RSADM_REVISION=//p')"
[ -z "$backup" ] || f process rsadm-backup.ti "$backup"
for p in /etc/kubernetes/manifests /var/log/kubernetes/audit; do [ -d $p ] && f file $(stat -c '%a %u:%g' $p) folder $p; done
[ -d /var/lib/etcd ] && f file $(stat -c '%a %U:%G' /var/lib/etcd) folder /var/lib/etcd
# Files: mode, owner, hash, path. /etc/kubernetes whole, so that leftovers and foreign files show.
mapfile -d '' -t files < <(find /etc/kubernetes /etc/cni/net.d /etc/containerd /etc/rsadm /var/lib/kubelet/{config.yaml,instance-config.yaml,pki} /var/lib/rsadm/cluster.json \
  /etc/systemd/system/{kubelet,containerd,rsadm-network,rsadm-backup}.service{,.d} /etc/systemd/system/rsadm-backup.timer{,.d} /etc/sysctl.d/90-rsadm.conf /etc/modules-load.d/rsadm.conf \( -type f -o -type l \) -printf '%m %U:%G %p\0')
for p in "${files[@]}"; do printf 'known %s\n' "$p"; done | cat - <(printf '%s\0' "${files[@]#* * }" | xargs -0 sha256sum) |
  awk '/^known /{p = $0; sub(/^known [^ ]* [^ ]* /, "", p); about[p] = $2 " " $3; next} {p = substr($0, 67)} p in about{print "file", about[p], $1, p}'
# Certificates are public; of kubeconfigs only the certificates and the address.
found=()
for p in /etc/kubernetes/pki/{,etcd/}*.crt /var/lib/kubelet/pki/{kubelet.crt,kubelet-client-current.pem}; do
  [ -f "$p" ] && found+=("$p")
done
# The bundle of the kubelet begins with its certificate and goes on with its key.
[ ${#found[@]} = 0 ] || awk 'function tell() {if (p) print "cert", p, b} FNR == 1{tell(); p = FILENAME; b = ""; on = 0; over = 0}
  /BEGIN CERT/{on = !over; next} /END CERT/{on = 0; over = p ~ /\.pem$/; next} on{b = b $0} END{tell()}' "${found[@]}"
found=()
for p in /etc/kubernetes/*.conf; do [ -f "$p" ] && found+=("$p"); done
[ ${#found[@]} = 0 ] || awk 'function tell() {if (p) print "kubeconfig", p, (s ? s : "-"), (a ? a : "-"), (c ? c : "-")} FNR == 1{tell(); p = FILENAME; s = a = c = ""}
  $1 == "server:"{s = $2} $1 == "certificate-authority-data:"{a = $2} $1 == "client-certificate-data:"{c = $2} END{tell()}' "${found[@]}"
p=/etc/kubernetes/manifests/etcd.yaml
[ -f $p ] && sed -n -e 's/^ *- --\(initial-cluster[a-z-]*=\)/etcd-flag \1/p' -e 's/^ *\(- \)\{0,1\}image: *"\{0,1\}\([^" ]*\).*/etcd-image \2/p' $p
p=/etc/cni/net.d/10-rsadm.conflist
[ -f $p ] && f pod-subnet "$(sed -n 's/.*"subnet": *"\([^"]*\)".*/\1/p' $p)"
# What files of ours say of the network (`network_in` in facts.rs).
sed -n -e 's/^ *\([0-9.]*\/[0-9]*\)=\([0-9.]*\)$/pod-route \1 \2/p' -e 's/^POD_SUBNET=/network pod_subnet /p' -e 's/^ *- --cluster-cidr=/network pod_subnet /p' \
  -e 's/^ *- --service-cluster-ip-range=/network service_subnet /p' -e 's/^clusterDomain: */network cluster_domain /p' \
  /etc/rsadm/network.sh /etc/kubernetes/manifests/kube-{apiserver,controller-manager}.yaml /var/lib/kubelet/config.yaml
grep -qs '^nameserver 127.0.0.53' /etc/resolv.conf && f resolv-conf /run/systemd/resolve/resolv.conf
grep -qs '^nameserver' /etc/resolv.conf && f feature resolver
[ -d /var/lib/etcd/member ] && f etcd-data "$(find /var/lib/etcd/member/snap/db -printf %s)"
# Whose it is, where no record of ours tells.
[ -f /var/lib/rsadm/cluster.json ] || for p in /var/lib/etcd/member/wal/*.wal; do [ -f "$p" ] && f etcd-writer "$(head -c 96 "$p" | base64 -w0)"; break; done
# From the metrics of the member that runs here, which are on loopback and need no certificate.
exec 3<>/dev/tcp/127.0.0.1/2381 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 &&
  timeout 2 awk '/^etcd_network_known_peers\{.* 1$/ {n++} END {if (n) print "etcd-members", n}' <&3
# Once a restore is over and no manifest waits, what is left of it stands in nobody's way.
p=/var/lib/rsadm/restore
[ -f $p/token ] && { [ ! -f $p/over ] || compgen -G "$p/manifests/*.yaml" >/dev/null; } && f restoring "$(r /var/lib/rsadm/restore/token)"
[ -f /var/lib/rsadm/before/cluster ] && f begun "$(r /var/lib/rsadm/before/cluster)"
[ -f /var/lib/rsadm/cluster.json ] && f identity "$(cat /var/lib/rsadm/cluster.json)"
# Programs that we installed, and whether they are still as we left them.
for p in /var/lib/rsadm/installed/*; do
  [ -f "$p" ] && { IFS= read -r u; s=kept; while read -r z t q; do [ "$(stat -c '%s %Y' "$q")" = "$z $t" ] || s=changed; done; f program "${p##*/}" "$s" "$u"; } < "$p"
done
[ -S /run/containerd/containerd.sock ] && command -v ctr >/dev/null && timeout 5 ctr -n k8s.io images ls -q | awk '!/@|^sha256:/{print "image",$1}'
f end
