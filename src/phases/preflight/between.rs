//! What hosts must not have in common, and what they must.

use std::collections::BTreeMap;

use crate::{
    inventory::{Cluster, NodeName},
    observe::Facts,
};

use super::{Findings, Verdict};

/// How far a clock may be from the median of all: certificates are backdated by five minutes, leases last forty seconds.
const CLOCK_LIMIT_SECONDS: f64 = 30.0;

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
pub fn inspect<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts, findings: &mut Findings) {
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
    clocks(cluster, facts, findings);
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds since 1970, wanted in seconds")]
fn clocks<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts, findings: &mut Findings) {
    let offset = |f: &Facts| (f.time - f.asked_at) as f64 / 1e9;
    let mut offsets: Vec<f64> = cluster.nodes.iter().map(|n| offset(facts(&n.name))).collect();
    offsets.sort_by(f64::total_cmp);
    let Some(median) = offsets.get(offsets.len() / 2).copied() else { return };
    for node in &cluster.nodes {
        let off = offset(facts(&node.name)) - median;
        let way = if off > 0.0 { "ahead of" } else { "behind" };
        let verdict = (off.abs() > CLOCK_LIMIT_SECONDS).then(|| {
            let text = format!("its clock is {:.0} s {way} the others", off.abs());
            Verdict::error(text, "set it, and keep it right with chrony or systemd-timesyncd")
        });
        findings.take(&node.name, verdict);
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
                    time: 1_000,
                    asked_at: 1_000,
                    ..Facts::default()
                };
                change(&name, &mut facts);
                (node.name.clone(), facts)
            })
            .collect();
        let mut findings = Findings::default();
        inspect(&cluster, |name| &facts[name], &mut findings);
        let lines =
            |list: &[super::super::Finding]| list.iter().map(|f| format!("{}: {}", f.host, f.text)).collect();
        (lines(&findings.errors), lines(&findings.warnings))
    }

    const SECOND: i128 = 1_000_000_000;

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
            ("all the same way off", |_, f| f.time += 7200 * SECOND, &[], &[]),
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
