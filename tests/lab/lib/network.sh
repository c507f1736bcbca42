# shellcheck shell=bash
# One network namespace with a bridge that every node is plugged into. It has no way out: no uplink, no route, no resolver.

GATEWAY=10.77.0.1
# shellcheck disable=SC2034  # used by lifecycle.sh
declare -A DEFAULT_NODES=([m1]=10.77.0.11 [m2]=10.77.0.12 [m3]=10.77.0.13 [w1]=10.77.0.21 [w2]=10.77.0.22)

# inside CMD…: runs CMD in the lab's network.
# Not `ip netns exec`: it remounts /sys, which hides the cgroups from nspawn.
inside() { nsenter --net="/run/netns/$NETNS" "$@"; }

network_up() {
  [[ ! -e /run/netns/$NETNS ]] || return 0
  ip netns add "$NETNS"
  ip -n "$NETNS" link set lo up
  ip -n "$NETNS" link add br0 type bridge
  ip -n "$NETNS" addr add "$GATEWAY/24" dev br0
  ip -n "$NETNS" link set br0 up
}

network_down() { [[ ! -e /run/netns/$NETNS ]] || ip netns del "$NETNS"; }

# Whether TCP port $2 of $1 takes a connection.
network_answers() { inside timeout 1 bash -c "< /dev/tcp/$1/$2" 2> /dev/null; }

verb_cut() { network_link down "$@"; }
verb_heal() { network_link up "$@"; }

network_link() {
  local state=$1 name
  shift
  (($#)) || usage_error "which node?"
  require_lab
  for name in "$@"; do
    require_node "$name"
    ip -n "$NETNS" link set "vb-$name" "$state"
    # Else the workstation goes on saying "no route to host" for some seconds after `heal`.
    ip -n "$NETNS" neigh flush to "$(node_address "$name")"
  done
}
