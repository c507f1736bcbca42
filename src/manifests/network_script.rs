//! The plugin `bridge` between nodes: a route to every other node's pods, and masquerading of what leaves the pod
//! network; as a script with its unit, so that a host has its network back after a boot without anybody's help.
//!
//! Routes do not only vanish at a reboot: a link that goes down takes them along, and systemd-networkd removes what it
//! does not know whenever it is restarted. So the unit stays and puts them back (the kernel tells of it; flannel's
//! `host-gw` looks every ten seconds for the same reason). Rules vanish whenever somebody loads his firewall anew
//! (`flush ruleset`, which a stock `/etc/nftables.conf` begins with). Both are looked for every ten seconds, too.

use std::{collections::BTreeMap, fmt::Write, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{
    inventory::{Cluster, Network, Node},
    layout,
};

use super::network::{BRIDGE, NodeSubnets};

/// A part of the pod subnet, and the address that leads to it.
pub type Route = (Ipv4Net, Ipv4Addr);

/// Many of them.
pub type Routes = BTreeMap<Ipv4Net, Ipv4Addr>;

/// The routes that a script has, as [`network_script`] writes them.
pub fn routes_of_script(text: &str) -> Routes {
    let route = |line: &str| {
        let (subnet, address) = line.trim().split_once('=')?;
        Some((subnet.parse().ok()?, address.parse().ok()?))
    };
    text.lines().filter_map(route).collect()
}

/// The routes to all nodes that have a part of the pod subnet, in the inventory's order.
pub fn routes_to_nodes(cluster: &Cluster, subnets: &NodeSubnets) -> Vec<Route> {
    let route = |node: &Node| Some((*subnets.get(&node.name)?, node.internal_address));
    cluster.kubernetes_nodes().filter_map(route).collect()
}

/// `network.sh` of the node that has `own`: `up`, `watch` and `down`.
///
/// `nodes` are the routes to all nodes of the inventory, itself too; `more` leads to nodes that are not in it.
pub fn network_script(network: &Network, own: Ipv4Net, nodes: &[Route], more: &Routes) -> String {
    let others = nodes.iter().filter(|(subnet, _)| *subnet != own).map(|(subnet, address)| (subnet, address));
    let mut routes = String::new();
    for (subnet, address) in others.chain(more) {
        // Writing to a string cannot fail.
        let _ = writeln!(routes, "    {subnet}={address}");
    }
    format!(
        "{HEAD}\nPOD_SUBNET={}\nBRIDGE={BRIDGE}\n# Every other node's pods and the address that leads to them.\nROUTES='\n{routes}'\n{BODY}",
        network.pod_subnet
    )
}

/// `rsadm-network.service`: up before the kubelet, and kept up.
pub fn network_unit() -> String {
    format!(
        "# Written by rsadm.
[Unit]
Description=Pod routes and masquerading between the nodes of this cluster
Wants=network-online.target
After=network-online.target
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
ExecStartPre=/bin/sh {script} up
ExecStart=/bin/sh {script} watch
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
",
        script = layout::NETWORK_SCRIPT
    )
}

const HEAD: &str = "#!/bin/sh
# Written by rsadm: pod routes and masquerading of the network plugin \"bridge\".
#   up     sets everything; repeating it changes nothing and interrupts nobody
#   watch  puts routes back whenever they vanish, and rules within ten seconds; routes too, where nobody told
#   down   removes all of it, the pods' bridge too
set -eu
";

const BODY: &str = r#"# Marks routes as ours, to find those of nodes that are gone: a number in neither the kernel's list (RTPROT_* of
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
"#;

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
        process::Command,
        thread::sleep,
        time::Duration,
    };

    use super::*;
    use crate::{inventory::NodeName, manifests::testing};

    fn script(cluster: &Cluster, name: &str, subnets: &NodeSubnets, more: &Routes) -> String {
        let own = subnets[&NodeName::new(name)];
        network_script(&cluster.network, own, &routes_to_nodes(cluster, subnets), more)
    }

    #[test]
    fn golden() {
        let cluster = testing::ha();
        let m2 = script(&cluster, "m2", &testing::subnets(&cluster), &Routes::new());
        testing::golden("ha/network-m2.sh", &m2);
        testing::golden("ha/rsadm-network.service", &network_unit());
        let cluster = testing::single();
        let m1 = script(&cluster, "m1", &testing::subnets(&cluster), &Routes::new());
        testing::golden("single/network.sh", &m1);
    }

    #[test]
    fn routes_to_others_are_written_and_read_back() {
        let cluster = testing::ha();
        let more = Routes::from([("10.244.9.0/24".parse().unwrap(), [10, 0, 0, 99].into())]);
        let script = script(&cluster, "m1", &testing::subnets(&cluster), &more);
        let routes = routes_of_script(&script);
        assert_eq!(routes.len(), 5);
        assert!(more.iter().all(|(subnet, address)| routes.get(subnet) == Some(address)), "{script}");
    }

    /// Runs the script with programs in place of the host's: a table is there as long as the file TABLE is, and routes are lines of
    /// the file ROUTES. `ip` tells of nothing until the file END is there, and what waits for ten seconds waits for a twentieth of one.
    #[test]
    fn what_vanished_unseen_comes_back_for_as_long_as_the_unit_runs() {
        const NFT: &str = "[ \"$1\" = -f ] && exec cat > TABLE\nexec cat TABLE";
        const IP: &str = "case \"$*\" in *monitor*) until [ -e END ]; do /bin/sleep 0.05; done;;\n\
            '-4 route show proto 173') cat ROUTES;;\n\
            'route replace '*) echo \"$3 via $5 dev eth0 \" >> ROUTES;;\nesac";
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let [table, routes, end] = ["TABLE", "ROUTES", "END"].map(path);
        for (name, text) in
            [("nft", NFT), ("ip", IP), ("iptables", "exit 1"), ("sleep", "exec /bin/sleep 0.05")]
        {
            let files = [("TABLE", &table), ("ROUTES", &routes), ("END", &end)];
            let text = files
                .iter()
                .fold(text.to_owned(), |text, (name, path)| text.replace(name, path.to_str().unwrap()));
            fs::write(path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
        }
        let cluster = testing::ha();
        let text = script(&cluster, "m1", &testing::subnets(&cluster), &Routes::new());
        let programs = format!("{}:{}", folder.path().display(), env::var("PATH").unwrap());
        let mut watch = Command::new("sh")
            .args(["-c", &text, "network.sh", "watch"])
            .env("PATH", programs)
            .spawn()
            .unwrap();
        let others = routes_of_script(&text).len();
        let come = || {
            (0..200).any(|_| {
                sleep(Duration::from_millis(50));
                let rules = fs::read_to_string(&table).is_ok_and(|text| text.contains("masquerade"));
                rules && fs::read_to_string(&routes).is_ok_and(|text| text.lines().count() == others)
            })
        };
        for _ in 0..2 {
            assert!(come());
            fs::remove_file(&table).unwrap();
            fs::remove_file(&routes).unwrap();
        }
        assert!(come());
        sleep(Duration::from_millis(300));
        assert!(come(), "those that are there are put there again");
        let all = fs::read_to_string(&routes).unwrap();
        let (_, others_than_first) = all.split_once('\n').unwrap();
        fs::write(path("fewer"), others_than_first).unwrap();
        fs::rename(path("fewer"), &routes).unwrap();
        assert!(come(), "with the one that is lacking those that are there are put there again");
        fs::write(&end, "").unwrap();
        assert!(watch.wait().unwrap().success());
        // What it was at is done by then.
        sleep(Duration::from_millis(300));
        fs::remove_file(&table).unwrap();
        sleep(Duration::from_millis(300));
        assert!(!table.exists(), "something goes on looking");
    }

    #[test]
    fn a_node_without_a_subnet_has_no_route() {
        let cluster = testing::ha();
        let mut subnets = testing::subnets(&cluster);
        subnets.remove(&NodeName::new("w2"));
        let script = script(&cluster, "m1", &subnets, &Routes::new());
        assert!(script.contains("=10.0.0.11\n") && !script.contains("=10.0.0.12\n"), "{script}");
    }
}
