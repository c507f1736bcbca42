# shellcheck shell=bash
# The operator's side: keys, known hosts, and commands run as if from his machine.

# A key pair for this lab only, and the password of the user whose sudo asks for one.
workstation_make() {
  (umask 077; mkdir -p "$STATE/home/.ssh")
  [[ -e $STATE/home/.ssh/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -C "lab $LAB_NAME" -f "$STATE/home/.ssh/id_ed25519"
  [[ -e $STATE/sudo-password ]] || (umask 077; head -c 15 /dev/urandom | base64 > "$STATE/sudo-password")
}

# The nodes' real host keys and names, so that strict checking works and does mean something.
workstation_learn() {
  local name
  for name in $(node_names); do
    printf '%s,%s %s\n' "$(node_address "$name")" "$name" "$(cut -d' ' -f1,2 "$STATE/nodes/$name/host_key.pub")"
  done > "$STATE/home/.ssh/known_hosts.new"
  mv "$STATE/home/.ssh/known_hosts.new" "$STATE/home/.ssh/known_hosts"
  cp /etc/hosts "$STATE/hosts"
  for name in $(node_names); do printf '%s %s\n' "$(node_address "$name")" "$name"; done >> "$STATE/hosts"
}

# Becomes CMD, with its pid, files, folder and signals, in a mount namespace where only ~/.ssh and /etc/hosts differ.
verb_workstation() {
  local home
  (($#)) || usage_error "workstation CMD …"
  require_lab
  # ssh asks the user database where home is, other programs ask $HOME.
  home=$(getent passwd "$UID" | cut -d: -f6)
  workstation_ssh_folder "$home"
  [[ $HOME -ef $home ]] || workstation_ssh_folder "$HOME"
  cgroup_enter workstation
  unset SSH_AUTH_SOCK # an agent would offer keys that the operator of this lab has not
  workstation_path
  # shellcheck disable=SC2016  # expanded by that shell
  exec nsenter --net="/run/netns/$NETNS" unshare --mount --propagation slave bash -c '
    state=$1 home=$2; shift 2
    mount --bind "$state/hosts" /etc/hosts
    mount --bind "$state/home/.ssh" "$home/.ssh"
    [[ $HOME -ef $home ]] || mount --bind "$state/home/.ssh" "$HOME/.ssh"
    exec -- "$@"' lab "$STATE" "$home" "$@"
}

# There must be a folder to mount on; the last lab's `down` removes it again if it was made for that.
workstation_ssh_folder() {
  [[ ! -d $1/.ssh ]] || return 0
  mkdir -m 700 "$1/.ssh" 2> /dev/null || [[ -d $1/.ssh ]]
  printf '%s\n' "$1/.ssh" >> "$MADE_FOLDERS"
}

# What the lab built comes first: rsadm, then the newest kubectl.
workstation_path() {
  local kubernetes
  kubernetes=$(find "$CACHE/bin" -maxdepth 1 -name 'kubernetes-v*' 2> /dev/null | sort -V | tail -n 1)
  PATH=$CARGO_TARGET_DIR/debug:${kubernetes:+$kubernetes:}$PATH
}

verb_ssh() {
  local target=${1:-} user=root
  [[ -n $target ]] || usage_error "ssh [USER@]NODE [CMD …]"
  shift
  require_lab
  [[ $target != *@* ]] || { user=${target%@*}; target=${target#*@}; }
  require_node "$target"
  exec nsenter --net="/run/netns/$NETNS" ssh -F none -i "$STATE/home/.ssh/id_ed25519" -o IdentitiesOnly=yes -o BatchMode=yes \
    -o UserKnownHostsFile="$STATE/home/.ssh/known_hosts" -o ConnectTimeout=10 "$user@$(node_address "$target")" "$@"
}
