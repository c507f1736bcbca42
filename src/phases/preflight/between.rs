//! What hosts must not have in common, and what they must.

use std::{collections::BTreeMap, net::IpAddr};

use time::Duration;

use crate::{
    inventory::{Cluster, NodeName},
    observe::Facts,
    phases::clock,
};

use super::{Findings, Verdict};

/// How far a clock may be from the median of all: certificates are backdated by five minutes, leases last forty seconds.
const CLOCK_LIMIT: Duration = Duration::seconds(30);

/// A thing that is each host's own: what it is called, where it is read, and what two hosts with the same are told.
struct Unique {
    what: &'static str,
    value: fn(&Facts) -> &str,
    verdict: fn(String, &'static str) -> Verdict,
    help: &'static str,
}

const UNIQUE: &[Unique] = &[
    Unique {
        what: "host name",
        value: |f| &f.hostname,
        verdict: |text, help| Verdict::error(text, help),
        help: "hostnamectl set-hostname NAME",
    },
    Unique {
        what: "machine-id",
        value: |f| &f.machine_id,
        verdict: |text, help| Verdict::error(text, help),
        help: "rm /etc/machine-id; systemd-machine-id-setup; reboot (the hosts were cloned)",
    },
    // Some hypervisors give all guests the same, and only cloud providers' parts of Kubernetes look at it.
    Unique {
        what: "product UUID",
        value: |f| &f.product_uuid,
        verdict: |text, help| Verdict::warning(text, help),
        help: "give each machine its own in the hypervisor, should storage or cloud drivers be used",
    },
];

/// Looks at all hosts together.
pub(super) fn inspect<'a>(
    cluster: &Cluster,
    facts: impl Fn(&NodeName) -> &'a Facts,
    findings: &mut Findings,
) {
    for unique in UNIQUE {
        let mut seen: BTreeMap<&str, &NodeName> = BTreeMap::new();
        for node in &cluster.nodes {
            let value = (unique.value)(facts(&node.name)).trim();
            let other = if value.is_empty() { None } else { seen.insert(value, &node.name) };
            let verdict = other.map(|other| {
                (unique.verdict)(format!("has the {} of {other}: {value}", unique.what), unique.help)
            });
            findings.take(&node.name, verdict);
        }
    }
    addresses(cluster, &facts, findings);
    clocks(cluster, facts, findings);
}

/// Whether a host has the address of another: whatever is dialled there would go to either of the two.
fn addresses<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts, findings: &mut Findings) {
    let owners: BTreeMap<IpAddr, &NodeName> =
        cluster.nodes.iter().map(|n| (n.internal_address.into(), &n.name)).collect();
    for node in &cluster.nodes {
        let has = facts(&node.name).addresses.iter();
        let of_others = has.filter_map(|address| Some((address, *owners.get(address)?)));
        let verdicts = of_others.filter(|(_, owner)| **owner != node.name).map(|(address, owner)| {
            let help = format!("take {address} out of its network settings, and off with ip address del");
            Verdict::error(format!("has the address of {owner}, too: {address}"), help)
        });
        findings.take(&node.name, verdicts);
    }
}

/// Whether all clocks agree, this computer's included.
pub(super) fn clocks<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts, findings: &mut Findings) {
    let Some(median) = clock::median(cluster.nodes.iter().map(|n| facts(&n.name))) else { return };
    for node in &cluster.nodes {
        let off = clock::offset(facts(&node.name)) - median;
        let way = if off.is_positive() { "ahead of" } else { "behind" };
        let among = (off.abs() > CLOCK_LIMIT).then(|| {
            let text = format!("its clock is {} s {way} the others", off.abs().whole_seconds());
            Verdict::error(text, "set it, and keep it right with chrony or systemd-timesyncd")
        });
        let here = clock::fault(median).map(|text| Verdict::error(text, clock::REMEDY));
        findings.take(&node.name, among.into_iter().chain(here));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    fn found(change: impl Fn(&str, &mut Facts)) -> (Vec<String>, Vec<String>) {
        let cluster = testing::ha();
        let facts: BTreeMap<NodeName, Facts> = cluster
            .nodes
            .iter()
            .map(|node| {
                let name = node.name.to_string();
                let mut facts = Facts {
                    hostname: name.clone(),
                    machine_id: format!("id-{name}"),
                    time: NOW,
                    asked_at: NOW,
                    ..Facts::default()
                };
                change(&name, &mut facts);
                (node.name.clone(), facts)
            })
            .collect();
        let mut findings = Findings::default();
        inspect(&cluster, |name| &facts[name], &mut findings);
        let lines = |list: &[super::super::Finding]| {
            super::super::grouped(list).iter().map(|(hosts, f)| format!("{hosts}: {}", f.text)).collect()
        };
        (lines(&findings.errors), lines(&findings.warnings))
    }

    const SECOND: i128 = 1_000_000_000;
    const NOW: i128 = 1_800_000_000 * SECOND;

    #[test]
    fn each_rule_finds_its_breach() {
        type Case = (&'static str, fn(&str, &mut Facts), &'static [&'static str], &'static [&'static str]);
        let cases: &[Case] = &[
            ("as it should be", |_, _| {}, &[], &[]),
            (
                "host name",
                |n, f| {
                    if n == "w1" {
                        f.hostname = "m1".into();
                    }
                },
                &["w1: has the host name of m1: m1"],
                &[],
            ),
            (
                "machine-id",
                |n, f| {
                    if n != "m1" && n.starts_with('m') {
                        f.machine_id = "same".into();
                    }
                },
                &["m3: has the machine-id of m2: same"],
                &[],
            ),
            (
                "another's address",
                |n, f| {
                    f.addresses = vec![[127, 0, 0, 1].into()];
                    if n != "m2" {
                        f.addresses.push([10, 0, 0, 1].into());
                    }
                },
                &["m3, w1, w2: has the address of m1, too: 10.0.0.1"],
                &[],
            ),
            ("no machine-id at all", |_, f| f.machine_id.clear(), &[], &[]),
            (
                "product",
                |n, f| {
                    if n.starts_with('w') {
                        f.product_uuid = "x".into();
                    }
                },
                &[],
                &["w2: has the product UUID of w1: x"],
            ),
            (
                "29 s ahead",
                |n, f| {
                    if n == "m2" {
                        f.time += 29 * SECOND;
                    }
                },
                &[],
                &[],
            ),
            (
                "31 s ahead",
                |n, f| {
                    if n == "m2" {
                        f.time += 31 * SECOND;
                    }
                },
                &["m2: its clock is 31 s ahead of the others"],
                &[],
            ),
            (
                "10 min behind",
                |n, f| {
                    if n == "w2" {
                        f.time -= 600 * SECOND;
                    }
                },
                &["w2: its clock is 600 s behind the others"],
                &[],
            ),
            ("this computer 2 h behind", |_, f| f.time += 7200 * SECOND, &[], &[]),
            (
                "this computer 26 h behind",
                |_, f| f.time += 26 * 3600 * SECOND,
                &[
                    "m1, m2, m3, w1, w2: this computer's clock is 26 h behind the hosts': which certificates have ended would be told wrongly",
                ],
                &[],
            ),
            ("this computer 4 min ahead", |_, f| f.asked_at += 240 * SECOND, &[], &[]),
            (
                "this computer 4 min and a second ahead",
                |_, f| f.asked_at += 241 * SECOND,
                &[
                    "m1, m2, m3, w1, w2: this computer's clock is 4 min ahead of the hosts': certificates would begin in their future",
                ],
                &[],
            ),
            (
                "this computer 2 years ahead, and a host that is behind the others",
                |n, f| f.asked_at += (730 * 86_400 + if n == "w2" { 40 } else { 0 }) * SECOND,
                &[
                    "m1, m2, m3, w1, w2: this computer's clock is 730 d ahead of the hosts': certificates would begin in their future",
                    "w2: its clock is 40 s behind the others",
                ],
                &[],
            ),
            (
                "most hosts right and one a year behind",
                |n, f| {
                    if n == "m3" {
                        f.time -= 400 * 86_400 * SECOND;
                    }
                },
                &["m3: its clock is 34560000 s behind the others"],
                &[],
            ),
            (
                "no clock at all",
                |n, f| {
                    if n == "m3" {
                        f.time = i128::MAX;
                    }
                },
                &["m3: its clock is 9223372036 s ahead of the others"],
                &[],
            ),
        ];
        for (name, change, errors, warnings) in cases {
            let (e, w) = found(change);
            assert_eq!(
                (e, w),
                (
                    errors.iter().map(|s| (*s).to_owned()).collect(),
                    warnings.iter().map(|s| (*s).to_owned()).collect()
                ),
                "{name}"
            );
        }
    }
}
