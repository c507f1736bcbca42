# probe.sh ADDRESS DISK(yes|no) FILES PROGRAMS PORT…: tries what looking cannot tell. FILES are the folders that take
# files, PROGRAMS those that take programs, with blanks between. Leaves nothing but one process, which listens where nothing
# listens yet, and ends with the shell of this connection should nobody hang up.
address=$1 disk=$2 programs=" $4 " folders="$3 $4" places=() known=(); shift 4

# No here-string: bash may write it into a file, and a full disk is what is looked for.
for folder in $folders; do
  place=$folder
  while [ ! -d "${place:-/}" ]; do place=${place%/*}; done
  file=$place/.rsadm-probe.$$ places+=("${place:-/}") known+=("$folder")
  if ! said=$({ set -C; printf '#!/bin/sh\n' >"$file"; } 2>&1); then
    echo "closed $folder ${said##*: }"
  elif [[ $programs == *" $folder "* ]]; then
    chmod 0700 "$file" && said=$("$file" 2>&1) || echo "inert $folder ${said##*: }"
  fi
  rm -f "$file"
done
[ ${#places[@]} = 0 ] || df --output=iavail,itotal "${places[@]}" 2>/dev/null | awk -v f="${known[*]}" 'BEGIN {split(f, folder)} NR > 1 && $2 > 0 {print "inodes", folder[NR - 1], $1, $2}'

# As etcd writes its log: small and synced. 100 writes, or as many as fit into two seconds.
if [ "$disk" = yes ]; then
  file=$(mktemp /var/lib/etcd/.rsadm-probe.XXXXXX 2>/dev/null || mktemp /var/lib/.rsadm-probe.XXXXXX) && {
    trap 'rm -f "$file"' EXIT
    begin=$(date +%s%N)
    timeout 2 dd if=/dev/zero of="$file" bs=2300 count=100 oflag=dsync conv=notrunc 2>/dev/null
    awk -v ns=$(($(date +%s%N) - begin)) -v bytes="$(stat -c %s "$file")" 'BEGIN {if (bytes >= 2300) printf "sync-ms %.2f\n", ns / 1e6 / int(bytes / 2300)}'
  }
fi
nft --version 2>/dev/null | awk '{sub(/^v/, "", $2); print "nft", $2}'
# What keeps packets of pods from passing: FORWARD of iptables apart, where rsadm has rules of its own.
! systemctl -q is-active firewalld 2>/dev/null || echo firewalld active
nft list chains 2>/dev/null | awk '$1 == "table" {table = $2 " " $3} $1 == "chain" {chain = table " " $2}
  /hook forward .*policy drop/ && table !~ /^ip6 / && chain != "ip filter FORWARD" {print "drops", chain}'

PATH=$PATH:/usr/lib/systemd:/lib/systemd
silent() { [ -z "$(ss -Hltn "sport = :$1")" ]; }
all_listen() { local port; for port; do ! silent "$port" || return; done; }
listen=() ours=()
for port; do
  silent "$port" || continue
  if command -v systemd-socket-activate >/dev/null; then listen+=(-l "$address:$port") ours+=("$port"); else echo "deaf $port"; fi
done
[ ${#ours[@]} != 0 ] || exit 0
# At the first call it becomes `sleep`, which holds the sockets; the kernel answers further calls. All hosts are dialled once the
# slowest of them listens.
setsid timeout 300 systemd-socket-activate "${listen[@]}" sleep 300 </dev/null >/dev/null 2>&1 &
pid=$!
setsid bash -c 'while read -rd "" _ <"/proc/$2/cmdline"; do kill -0 "$1" || kill "$2"; sleep 1; done' rsadm-listener "$RSADM_SHELL" $pid </dev/null >/dev/null 2>&1 &
# They are opened in turn, and who dials one that is not yet is refused.
for _ in $(seq 100); do
  ! all_listen "${ours[@]}" || break
  kill -0 $pid 2>/dev/null || break
  sleep 0.05
done
! kill -0 $pid 2>/dev/null || echo "listener $pid"
for port in "${ours[@]}"; do ! silent "$port" || echo "deaf $port"; done
