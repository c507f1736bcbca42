#!/bin/sh
# Written by rsadm: pod routes and masquerading of the network plugin "bridge".
#   up     sets everything; repeating it changes nothing and interrupts nobody
#   watch  puts routes back whenever they vanish, and rules within ten seconds; routes too, where nobody told
#   down   removes all of it, the pods' bridge too
set -eu

POD_SUBNET=10.244.0.0/16
BRIDGE=rsadm0
# Every other node's pods and the address that leads to them.
ROUTES='
    10.244.0.0/24=10.0.0.1
    10.244.2.0/24=10.0.0.3
    10.244.3.0/24=10.0.0.11
    10.244.4.0/24=10.0.0.12
'
# Marks routes as ours, to find those of nodes that are gone: a number in neither the kernel's list (RTPROT_* of
# rtnetlink.h) nor FRR's, so that `ip` has no name for it either.
PROTOCOL=173
# What ours were marked with before, which is BGP's. FRR gives its routes a metric, and ours have none.
FORMER=186

# Also in place of one with the former mark.
route_up() {
    ip route replace "${1%=*}" via "${1#*=}" proto "$PROTOCOL"
}

routes_up() {
    failed=0
    for route in $ROUTES; do
        route_up "$route" || failed=1
    done
    for protocol in "$PROTOCOL" "$FORMER"; do
        ip -4 route show root "$POD_SUBNET" proto "$protocol" metric 0 | while read -r subnet _; do
            case "$ROUTES" in
                *" $subnet="*) ;;
                *) ip route del "$subnet" proto "$protocol" metric 0 ;;
            esac
        done
    done
    return "$failed"
}

# One look, so that none is replaced that is there: one that cannot be put back would have all others replaced each time.
lacking_routes_up() {
    there="
$(ip -4 route show proto "$PROTOCOL")"
    for route in $ROUTES; do
        case "$there" in
            *"
${route%=*} via ${route#*=} "*) ;;
            *) route_up "$route" || true ;;
        esac
    done
}

RULE="ip saddr $POD_SUBNET ip daddr != { $POD_SUBNET, 224.0.0.0/4 } masquerade"

masquerades() {
    # Debian 12's nft crashes on the tables that kube-proxy makes with a newer one; ours it can still show.
    nft list table ip rsadm 2>/dev/null | grep -qF "$RULE" || {
        iptables -w -t nat -C POSTROUTING -s "$POD_SUBNET" -j RSADM-MASQUERADE &&
            iptables -w -t nat -C RSADM-MASQUERADE -j MASQUERADE
    } 2>/dev/null
}

masquerade_up() {
    if masquerades; then return; fi
    if command -v nft >/dev/null; then
        # One transaction: the table is replaced, never missing.
        if nft -f - <<END
table ip rsadm {}
delete table ip rsadm
table ip rsadm {
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        $RULE
    }
}
END
        then return; fi
    fi
    iptables -w -t nat -N RSADM-MASQUERADE 2>/dev/null || iptables -w -t nat -F RSADM-MASQUERADE
    iptables -w -t nat -A RSADM-MASQUERADE -d "$POD_SUBNET" -j RETURN
    iptables -w -t nat -A RSADM-MASQUERADE -d 224.0.0.0/4 -j RETURN
    iptables -w -t nat -A RSADM-MASQUERADE -j MASQUERADE
    iptables -w -t nat -C POSTROUTING -s "$POD_SUBNET" -j RSADM-MASQUERADE 2>/dev/null ||
        iptables -w -t nat -A POSTROUTING -s "$POD_SUBNET" -j RSADM-MASQUERADE
}

# Docker and ufw drop whatever is forwarded, and no other table can undo that.
forward_up() {
    command -v iptables >/dev/null || return 0
    for side in -s -d; do
        iptables -w -C FORWARD "$side" "$POD_SUBNET" -m comment --comment rsadm -j ACCEPT 2>/dev/null ||
            iptables -w -I FORWARD "$side" "$POD_SUBNET" -m comment --comment rsadm -j ACCEPT
    done
}

# A firewall that is loaded anew takes all rules along, and nobody tells of that. What the kernel tells of routes may be lost
# where it tells much at once, and a route that could not be put back then has no event of its own any more.
keep_up() {
    while sleep 10; do
        masquerade_up || true
        forward_up || true
        lacking_routes_up || true
    done >/dev/null 2>&1
}

# A link that is down has no routes, and says so when it is up again.
watch() {
    keep_up &
    keeper=$!
    trap 'kill "$keeper" 2>/dev/null || true' EXIT
    # systemd takes any other status for a failure.
    trap 'exit 0' INT TERM
    ip -4 monitor route | while read -r change; do
        case "$change" in
            Deleted*"proto $PROTOCOL"*) routes_up || true ;;
            *"proto $PROTOCOL"*) ;;
            *) routes_up || true ;;
        esac
    done
}

down() {
    for protocol in "$PROTOCOL" "$FORMER"; do
        ip -4 route flush root "$POD_SUBNET" proto "$protocol" metric 0 || true
    done
    ip link delete "$BRIDGE" 2>/dev/null || true
    if command -v nft >/dev/null; then
        nft flush table ip rsadm 2>/dev/null || true
        nft delete table ip rsadm 2>/dev/null || true
    fi
    if command -v iptables >/dev/null; then
        for side in -s -d; do
            iptables -w -D FORWARD "$side" "$POD_SUBNET" -m comment --comment rsadm -j ACCEPT 2>/dev/null || true
        done
        iptables -w -t nat -D POSTROUTING -s "$POD_SUBNET" -j RSADM-MASQUERADE 2>/dev/null || true
        iptables -w -t nat -F RSADM-MASQUERADE 2>/dev/null || true
        iptables -w -t nat -X RSADM-MASQUERADE 2>/dev/null || true
    fi
}

case "${1:-}" in
    up)
        masquerade_up
        forward_up || echo "rsadm: forwarded pod traffic could not be allowed in iptables" >&2
        routes_up
        ;;
    watch) watch ;;
    down) down ;;
    *) echo "usage: $0 up|watch|down" >&2; exit 2 ;;
esac
