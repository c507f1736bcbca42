# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (c) Nothing to do on five hosts: `rsadm up`, and an Ansible playbook of 20 copy tasks that all find their file in place.
# (e) What (c) takes from the workstation: processor time of rsadm and all ssh processes, and the memory of rsadm.

bench_c() {
  local up=() cpu=() rss=() book=() book_cpu=() n start
  say "(c, e) a second up with nothing to do, five hosts"
  cluster
  ansible_there
  playbook # the first run puts the files
  for n in 1 2 3 4 5; do
    quiet
    start=$(cpu_seconds)
    timed "$RSADM" up "$ROOT/inventories/lab.yaml"
    cpu+=("$(calc "$(cpu_seconds) - $start")") up+=("$took") rss+=("$peak")
  done
  for n in 1 2 3; do
    quiet
    start=$(cpu_seconds)
    playbook
    book_cpu+=("$(calc "$(cpu_seconds) - $start")") book+=("$took")
  done
  grep -q 'nothing to change' "$work/log" || die "there was something to change; see $work/log"
  result "rsadm up, nothing to do" "$(median "${up[@]}") s (${up[*]})"
  result "ansible-playbook, 20 idempotent copy tasks ($ansible_version)" "$(median "${book[@]}") s (${book[*]})"
  goal "rsadm up, seconds" "$(median "${up[@]}")" 1.0
  goal "rsadm up / ansible-playbook" "$(calc "$(median "${up[@]}") / $(median "${book[@]}")" 3)" 0.02
  result "(e) workstation, processor seconds: rsadm" "$(median "${cpu[@]}") s"
  result "(e) workstation, processor seconds: ansible-playbook" "$(median "${book_cpu[@]}") s"
  result "(e) workstation, peak resident memory of rsadm" "$(calc "$(median "${rss[@]}") / 1024" 1) MiB"
}

# Of everything that ran in the cgroup of `lab workstation`, ssh's masters included, which outlive whoever starts them.
cpu_seconds() {
  local file
  for file in $(find /sys/fs/cgroup -path "*rsadm-lab.$LAB_NAME*/workstation/*" \( -name cpuacct.usage -o -name cpu.stat \) 2> /dev/null | sort -r); do
    case $file in
      */cpuacct.usage) calc "$(< "$file") / 1e9" 3; return ;;
      */cpu.stat) calc "$(sed -n 's/^usage_usec //p' "$file") / 1e6" 3; return ;;
    esac
  done
  echo 0
}

# timed CMD…: sets `took` to the seconds that it takes on the workstation, without the way in there, and writes the kibibytes of
# the largest of its processes to a file.
timed() {
  operator python3 -c 'import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(code)' "$work/timed" "$@" >> "$work/log" 2>&1 || die "failed: $* (its words are the last of $work/log): $(tail -n 5 "$work/log")"
  read -r took peak < "$work/timed"
  took=$(calc "$took")
}

# ansible-core from PyPI, in an environment of its own; and on the nodes, which have none, Debian's Python for its modules.
ansible_there() {
  local home=$CACHE/rsadm-bench node
  if [[ ! -x $home/ansible/bin/ansible-playbook ]]; then
    python3 -m venv "$home/ansible"
    "$home/ansible/bin/pip" install --quiet ansible-core
  fi
  ansible_version=$("$home/ansible/bin/ansible" --version | sed -n 1p)
  if [[ ! -d $home/python ]]; then
    rm -rf "$home/python.part"
    mmdebstrap --quiet --mode=root --variant=extract --include=python3-minimal,libpython3-stdlib bookworm "$home/python.part"
    mv "$home/python.part" "$home/python"
  fi
  for node in "${nodes[@]}"; do
    tar -C "$home/python" --exclude=./dev --exclude=./proc --exclude=./sys -c . | "$LAB" root "$node" tar -x -C / --skip-old-files
  done
  PLAYBOOK=$home/ansible/bin/ansible-playbook
  mkdir -p "$work/files"
  {
    printf '%s\n' '- hosts: all' '  gather_facts: false' '  become: true' '  tasks:'
    for n in {1..20}; do
      head -c 2000 /dev/urandom | base64 > "$work/files/$n"
      printf '  - copy: {src: %s, dest: /etc/bench-%s.conf, mode: "0644"}\n' "$work/files/$n" "$n"
    done
  } > "$work/playbook.yaml"
  printf '%s\n' 10.77.0.{11,12,13,21,22} > "$work/hosts"
  # As its own documentation makes it fast: connections are kept, no second round trip for each module.
  printf '%s\n' '[defaults]' 'interpreter_python=/usr/bin/python3' 'remote_user=ops' 'forks=5' '[ssh_connection]' 'pipelining=true' \
    'ssh_args=-o ControlMaster=auto -o ControlPersist=60s' > "$work/ansible.cfg"
}

playbook() {
  ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_NOCOWS=1 timed "$PLAYBOOK" -i "$work/hosts" "$work/playbook.yaml"
}
