# Tells what is on this host, one fact a line: a word, then its values. Changes nothing, and shows no key.
# Every run waits for it on every host: processes are started for many things at once, and builtins do the rest.
exec 2>/dev/null
K=/etc/kubernetes L=/var/lib R=/var/lib/rsadm E=$L/etcd U=/etc/systemd/system
f() { echo "$*"; }
# r WORD FILE: the fact that is the file's first line.
r() { v=; IFS= read -r v <"$2"; [ -z "$v" ] || f "$1" "$v"; }
. /etc/os-release
r machine-id /etc/machine-id
[ -e /run/systemd/container ] || r product /sys/class/dmi/id/product_uuid
r boot-id /proc/sys/kernel/random/boot_id
# shellcheck disable=SC2046,SC2183  # three words
printf 'hostname %s\nkernel %s\narch %s\n' $(uname -nrm)
f os "${ID:-linux} ${VERSION_ID:-unknown}"
date "+time %s%N"
f cpus "$(nproc)"
read -r _ v _ </proc/meminfo
f memory $((v*1024))
w=(-); mapfile -t w </proc/swaps
f swap $((${#w[@]}-1))
[ -d /run/systemd/system ] && read -r _ v _ < <(systemctl --version) && f systemd "$v"
if IFS= read -r v </sys/fs/cgroup/cgroup.controllers; then f cgroup 2; f controllers "$v"
else f cgroup 1; f controllers "$(awk 'NR>1&&$4==1{printf "%s ",$1}' /proc/cgroups)"; fi
for t in tar gzip sha256sum mount ip ss awk sed grep find sysctl systemctl timeout setsid curl wget nft iptables flock ctr; do hash $t || f missing $t; done
m() { "${@:2}" && f feature $1 || { modinfo $1 >/dev/null && f loadable $1; }; }
m overlay grep -qw overlay /proc/filesystems
m br_netfilter grep -q . /proc/sys/net/bridge/bridge-nf-call-iptables /sys/module/br_netfilter/initstate
# Each may be a disk of its own; of those that are still to come it is the nearest folder above.
d="$L /usr $E $L/containerd $L/kubelet" w=()
for p in ${d/usr/usr\/local}; do until [ -d $p ]; do p=${p%/*}; done; w+=("$p"); done
df -PB1 "${w[@]}" | awk -v d="$d" 'BEGIN{split(d,n)} NR>1{print "disk",n[NR-1],$4,$2}'
ip -o addr | awk '{split($4,a,"/");print "address",a[1]}'
ss -Hltnp | awk '{n=split($4,a,":");p="-";if(match($0,/users:\(\("[^"]+/))p=substr($0,RSTART+9,RLENGTH-9);print "port",a[n],p}'
# An empty line ends a unit.
n=0 b=
# shellcheck disable=SC1097  # IFS is "="
while IFS== read -r k x; do
  case $k in
    MainPID) pid=$x;;
    Description) d=$x;;
    Id) u=${x%.service};;
    ActiveState) on=$x;;
    UnitFileState) boot=$x;;
    '') f unit "$u" "$on" "$boot"
        [ "$u" != rsadm-network ] || n=$pid
        case $u$d in rsadm-backup.timer*RSADM_REVISION=*) b=${d##*RSADM_REVISION=};; esac;;
  esac
done < <(systemctl show -p MainPID,Id,ActiveState,UnitFileState,Description kubelet containerd rsadm-network rsadm-backup.timer && echo)
# What each process of ours was started with, from the process itself. Which those are, processes.sh tells, too; nobody asks for
# others of such names.
for p in /proc/[0-9]*; do
  read -r c <$p/comm
  [ $p != /proc/$n ] || c=rsadm-network
  case $c in etcd|kube-[acs]*|kubelet|haproxy|containerd|rsadm-network);; *) continue;; esac
  # shellcheck disable=SC2128  # the first word says enough
  [ $p/ns/net -ef /proc/self/ns/net ] && mapfile -d '' -t w <$p/cmdline && [ "$w" ] || continue
  [[ $c = haproxy && ${w[*]} != */etc/kubernetes/haproxy/* ]] && continue
  mapfile -d '' -t -O ${#w[@]} w <$p/environ
  # shellcheck disable=SC1007
  v=- e= d= u=
  for x in "${w[@]}"; do case $x in --etcd-servers=*) e=${x#*=};; RSADM_REVISION=*) v=${x#*=};; --data-dir=$E*|--listen-c*:2379*) d=$E;; --data-dir=*) d=${d:-1};; --listen-c*) u=1;; esac; done
  [ $c$d$u = etcd11 ] || f process $c $v $e
done
[ -z "$b" ] || f process rsadm-backup.ti "$b"
stat -Lc 'file %a %u:%g folder %n' $K{,/pki{,/etcd},/manifests} /var/log/kubernetes/audit
stat -Lc 'file %a %U:%G folder %n' $E
# Files: mode, owner, hash, path. The first folder whole, so that leftovers and foreign files show, but for large ones: those are
# data, such as the copies of etcd's that kubeadm leaves there. Folders and files may be links.
mapfile -d '' -t a < <(find -L $K /etc/{cni/net.d,containerd,rsadm,sysctl.d/90-rsadm.conf,modules-load.d/rsadm.conf} $L/kubelet/{config.yaml,instance-config.yaml,pki} $R/cluster.json \
  $U/{kubelet,containerd,rsadm-network,rsadm-backup}.service{,.d} $U/rsadm-backup.timer{,.d} -type f -size -999k -printf '%m %U:%G %p\0')
printf 'k %s\n' "${a[@]}" | cat - <(printf '%s\0' "${a[@]#* * }" | xargs -0 sha256sum) |
  awk '/^k /{p=$0;sub(/^k [^ ]* [^ ]* /,"",p);a[p]=$2" "$3;next} {p=substr($0,67)} p in a{print "file",a[p],$1,p}'
# What is ours where an operator may have files, too, and programs that we began to put there.
for p in /etc/containerd/certs.d/*/hosts.toml $U/containerd.service; do IFS= read -r v <"$p" && [[ $v = '# Written by rsadm'* ]] && f ours "$p"; done
# Of an install that was to put something in place, whether any of it is there.
for p in $R/placing/*; do while read -r _ _ v; do [ ! -e "$v" ] || { f placing "${p##*/}"; break; }; done <"$p"; done
# Certificates are public, and of several in a file the first counts; of kubeconfigs only these and the address. In the kubelet's bundle a key follows. Of a key that its
# file cuts short, nothing; on P-256 its end, the public point: of SEC 1 in 164 characters (30 77 02 01 01) or of PKCS#8 in
# 184 (30 81 87 02 01 00 30 13), as no other key, and no part of one, begins and is long. The end of others is secret.
w=()
for p in $K/pki/{,etcd/}*.{crt,key} $L/kubelet/pki/{kubelet.{crt,key},kubelet-client-current.pem} $K/*.conf; do [ -f "$p" ] && w+=("$p"); done
awk 'function tell(){if(p~/conf$/)print "kubeconfig",p,s,a,c;else if(p~/y$/){if(on)b="";n=length(b);if(!n||n==164&&b~/^MHcCAQE/||n==184&&b~/^MIGHAgEAMBM/)print "key",p,substr(b,n-87)}else if(p)print "cert",p,b}
  FNR==1{tell();p=FILENAME;b="";on=over=0;s=a=c="-"}
  /N CERT/{on=!over;next} /END CERT/{on=0;over=1;next} /-.* KEY/{on=p~/y$/&&/BE/;next} on{b=b $0}
  $1=="server:"{s=$2} $1~/^certificate-auth.*-data:/{a=$2} $1~/^client-cert.*-data:/{c=$2} END{tell()}' "${w[@]}" </dev/null
# Of the container etcd, whatever stands beside it: what it is started with, a value on its own line with its flag. Where none has
# that name, all flags count. The same of a manifest that was set aside.
for p in "etcd $K/manifests" "kept $R/aside"; do awk -v w=${p% *} 'function put(){if(v!=""&&v!~/-(password|user)(=|$)/){all=all w "-flag " v "\n";own=own w "-flag " v "\n"} v=""}
  function over(){put();if(n&&!d++)printf "%s%s",own,i;n=i=own=""}
  {match($0,/[^ -]/);c=RSTART;gsub(/["'\'']|[ \t]+(#.*)?$/,"")} !NF||/^#/{next} /^ *containers:/{over();k=-1;next}
  k<0&&/^ *- /{k=c} k>0&&c<k&&!/^ *- -/{over();k=0} k<=0{next} c==k&&/^ *- [^-]/&&/:/{over()}
  c==k&&/^ *(- )?[a-zA-Z]+:/{put();f=/^[ -]*(command|args):/} c==k&&/^[ -]*name: etcd$/{n=1} c==k&&sub(/^[ -]*image: */,""){i=w "-image " $0 "\n"}
  !f{next} /^ *- --?[a-z][a-z]/{put();sub(/^ *- --?/,"");v=$0;next} /^ *- /{sub(/^ *- /,"");if(v!=""&&v!~/=/)v=v "=" $0;put()} END{over();if(!d)printf "%s",all}' "${p#* }/etcd.yaml"; done
# What files of ours say of the network (`network_in` in facts.rs).
sed -nE 's/^ *([0-9.]*\/[0-9]*)=([0-9.]*)$/pod-route \1 \2/p;s/^(POD_SUBNET| *- --cluster-cidr)=/network pod_subnet /p
  s/^ *- --service-cluster-ip-range=/network service_subnet /p;s/^(cgroup\w+|clusterDomain): */network \1 /p
  s/^ *"made": "([^"]*)".*/backup-target \1/p;s/.*"subnet": *"([^"]*)".*/pod-subnet \1/p' /etc/{cni/net.d/10-rsadm.conflist,rsadm/{backup.json,network.sh}} \
  $K/manifests/kube-{apiserver,controller-manager}.yaml $L/kubelet/config.yaml
# On loopback is the pod itself: of systemd-resolved's stub the file behind it counts, and one that names no other server is none.
p=/etc/resolv.conf v=$'\nnameserver'
[[ $'\n'$(<$p) = *"$v 127.0.0.53"* ]] && p=/run/systemd/resolve/resolv.conf
x=
while read -r k v _ || [ "$k" ]; do case $k$v in nameserver127.*|nameserver::1);; nameserver?*) x=1;; esac; done <$p
if [ $x ]; then f feature resolver; else p=; fi
[[ $p = /e* ]]||f resolv-conf $p
for p in ipv4/ip_forward bridge/bridge-nf-call-iptables; do r "net $p" /proc/sys/net/$p; done
for p in $E/member{,/snap,/wal}; do [ -L $p ] && f etcd-folder "$(readlink -f $p)"; done
[ -d $E/member ] && f etcd-data "$(find $E/member/snap/db -printf %s)"
# Whose it is, where no record of ours tells.
[ -f $R/cluster.json ] || for p in $E/member/wal/*.wal; do f etcd-writer "$(head -c 96 "$p" | base64 -w0)"; break; done
# From the metrics of the member that runs here, which are on loopback and need no certificate.
exec 3<>/dev/tcp/127.0.0.1/2381 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 &&
  timeout 2 awk '/^etcd_network_known_peers\{.* 1$/{n++} /^etcd_server_has_leader 0/{print "etcd-leaderless"} END{if(n)print "etcd-members",n}' <&3
# Once a restore is over and no manifest waits, what is left of it stands in nobody's way.
p=$R/restore
[ -f $p/token ] && { [ ! -f $p/over ] || compgen -G "$p/manifests/*.yaml" >/dev/null; } && f restoring "$(< $p/token)"
r begun $R/before/cluster
r identity $R/cluster.json
# Programs that we installed, and whether they are still as we left them.
w=() n=$'\n'
for p in $R/installed/*; do while read -r _ _ p; do w+=("$p"); done <"$p"; done
k=$n$(stat -c '%s %Y %n' "${w[@]}")$n b=
for p in $R/installed/*; do
  { read -r u; s=kept; while read -r v; do [[ $k = *"$n$v$n"* ]] || s=changed; done; p="${p##*/} $s"; f program $p $u; b+="$p "; } <"$p"
done
# Our record tells its version without the start of a large program.
[[ $b = *'containerd kept'* ]] || containerd --version | awk '{print "containerd",$3}'
# Those that are unpacked: of one whose content is gone containerd has the name, and no more. Looking takes half of all the time
# here; the kubelet's second names of images, which have no slash, would double that. A busy one that is late has not none.
[ -S /run/containerd/containerd.sock ] && {
  timeout 9 ctr -n k8s.io images check 'name~="/"' | awk '$NF=="true"&&!/@|^sha256:/{print "image",$1}'
  [ ${PIPESTATUS[0]} != 124 ] || f images-untold
}
f end
