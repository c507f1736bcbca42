# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (d) How the time with nothing to do grows from 3 to 30 hosts: real sshds and systemds in 30 namespaces. What is compared are
# the certificates alone, since 30 whole nodes would compete for the machine with what is measured; what is observed is everything.

bench_d() {
  local few=() many=() hosts=() n
  say "(d) a second up with nothing to do, 3 hosts and 30"
  for n in {1..30}; do hosts+=("n$n:10.77.0.$((100 + n))"); done
  LAB_NAME=$LAB_NAME-d
  trap '"$LAB" down 2>> "$work/log"; LAB_NAME=${LAB_NAME%-d}; finish' EXIT
  "$LAB" up "${hosts[@]}" >> "$work/log" 2>&1
  inventory 3 > "$work/3.yaml"
  inventory 30 > "$work/30.yaml"
  rsadm up --only certificates "$work/30.yaml" >> "$work/log" 2>&1 || die "rsadm up failed; see $work/log"
  for n in 1 2 3 4 5; do
    quiet
    measure rsadm up --only certificates "$work/3.yaml"
    few+=("$took")
    measure rsadm up --only certificates "$work/30.yaml"
    many+=("$took")
  done
  grep -q '30 hosts, .* nothing to change' "$work/log" || die "there was something to change; see $work/log"
  result "3 hosts" "$(median "${few[@]}") s (${few[*]})"
  result "30 hosts" "$(median "${many[@]}") s (${many[*]})"
  goal "30 hosts / 3 hosts" "$(calc "$(median "${many[@]}") / $(median "${few[@]}")")" 7
  "$LAB" down
  LAB_NAME=${LAB_NAME%-d}
  trap finish EXIT
}

# One control plane, and workers.
inventory() {
  local n
  printf '%s\n' 'cluster_name: bench' "kubernetes_version: $version" 'ssh: {user: ops, key_path: ~/.ssh/id_ed25519}' 'hosts:' \
    '  - {name: n1, address: 10.77.0.101, roles: [control-plane, etcd]}'
  for ((n = 2; n <= $1; n++)); do printf '  - {name: n%s, address: 10.77.0.%s, roles: [worker]}\n' "$n" "$((100 + n))"; done
}
