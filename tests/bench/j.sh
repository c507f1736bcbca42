# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (j) How long a person waits to hear that something is wrong: hosts that cannot be used, in ways of all kinds and all at
# once; another operator; members of etcd that are gone, that hang, and whose hosts swallow packets. Of three runs, the slowest.

bench_j() {
  say "(j) what is wrong is told soon"
  etcd_cluster
  "$LAB" add e4:10.77.0.34 e5:10.77.0.35 >> "$work/log" 2>&1 || die "two hosts more did not boot; see $work/log"
  unusable_hosts
  another_operator
  members_away
}

unusable_hosts() {
  local hosts=(e1 e2 e3 e4 e5)
  inventory_of "${hosts[@]}" > "$work/five.yaml"
  # One host swallows packets, one refuses them, one has another key than is known, one does not take ours, one wants a password for sudo.
  sed -e "/^ssh:/a\\  known_hosts_path: $work/known_hosts" -e '/name: e2,/s/roles/port: 2222, roles/' \
    -e '/name: e4,/s/roles/user: nobody, roles/' -e '/name: e5,/s/roles/user: sec, roles/' "$work/five.yaml" > "$work/unusable.yaml"
  awk '/^10.77.0.34,/ {key = $3} {lines[NR] = $0}
    END {for (n = 1; n <= NR; n++) {if (lines[n] ~ /^10.77.0.33,/) sub(/[^ ]+$/, key, lines[n]); print lines[n]}}' \
    "$("$LAB" path home/.ssh/known_hosts)" > "$work/known_hosts"
  "$LAB" cut e1
  slowest ends 4 tells "5 of 5 hosts cannot be used" rsadm up "$work/unusable.yaml"
  goal "five hosts that cannot be used, each in its way, seconds" "$took" 15
  "$LAB" cut "${hosts[@]}"
  slowest ends 4 tells "5 of 5 hosts cannot be used" rsadm up "$work/five.yaml"
  goal "five hosts that swallow packets, seconds" "$took" 15
  "$LAB" heal "${hosts[@]}"
  sed 's/user: ops/user: sec/' "$work/five.yaml" > "$work/asked.yaml"
  RSADM_SUDO_PASSWORD=wrong slowest ends 4 tells "5 of 5 hosts cannot be used" rsadm up "$work/asked.yaml"
  goal "a wrong password for sudo on five hosts, seconds" "$took" 15
  etcd_healthy
}

# The first stands still once it has the locks; the second has something to do, too.
another_operator() {
  local first
  sed '/^cluster_name/a etcd: {extra_args: {max-request-bytes: "2000000"}}' "$work/etcd.yaml" > "$work/rolled.yaml"
  sed 's/2000000/2100000/' "$work/rolled.yaml" > "$work/other.yaml"
  "$LAB" workstation "$RSADM" up "$work/rolled.yaml" >> "$work/log" 2>&1 &
  first=$!
  until "$LAB" root e3 test -s /run/rsadm-lock/lock; do kill -0 "$first" || die "the first operator was too fast"; done
  kill -STOP "$first"
  slowest ends 5 tells "is locked by another run" rsadm up "$work/other.yaml"
  goal "another operator holds the locks, seconds" "$took" 5
  kill -CONT "$first"
  wait "$first" || die "the first operator failed; see $work/log"
  etcd_healthy
}

members_away() {
  local way count code
  slowest ends 0 rsadm etcd status "$work/rolled.yaml"
  goal "etcd status, all members well, seconds" "$took" 5
  for way in "gone" "hang" "are cut off"; do
    for count in 1 2; do
      away "$way" "${etcd_hosts[@]:3 - count}"
      [[ $count == 1 ]] && code=8 || code=9
      slowest ends "$code" rsadm etcd status "$work/rolled.yaml"
      goal "etcd status, $count of 3 $way, seconds" "$took" 5
      back "$way" "${etcd_hosts[@]:3 - count}"
    done
  done
}

# away WAY NODE…: their members, with the kubelets that would start them again.
away() {
  local way=$1 node
  shift
  for node; do
    case $way in
      "are cut off") "$LAB" cut "$node" ;;
      hang) "$LAB" root "$node" pkill -STOP -x etcd ;;
      gone) "$LAB" root "$node" bash -c 'systemctl stop kubelet; pkill -KILL -x etcd' ;;
    esac
  done
}

back() {
  local way=$1 node
  shift
  for node; do
    case $way in
      "are cut off") "$LAB" heal "$node" ;;
      hang) "$LAB" root "$node" pkill -CONT -x etcd ;;
      gone) "$LAB" root "$node" systemctl start kubelet ;;
    esac
  done
  etcd_healthy
}

# slowest CMD…: sets `took` to the longest of three.
slowest() {
  local all=() n
  for n in 1 2 3; do
    measure "$@"
    all+=("$took")
  done
  took=$(printf '%s\n' "${all[@]}" | sort -n | tail -n 1)
}

# ends STATUS CMD…: CMD exits with that.
ends() {
  local wanted=$1 code=0
  shift
  "$@" || code=$?
  ((code == wanted)) || { echo "exit $code instead of $wanted"; return 1; }
}

# tells TEXT CMD…: becomes CMD, which has to say that.
tells() {
  local text=$1 said code=0
  shift
  said=$("$@" 2>&1) || code=$?
  printf '%s\n' "$said"
  [[ $said == *"$text"* ]] || { echo "does not say \"$text\""; return 1; }
  return "$code"
}
