//! Asking all hosts at once; and one control plane about nodes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{Facts, Observed, parser};
use crate::{
    host::{Host, HostError, Op, Script, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
};

/// A host that is told to stop gets so long to say so.
const GRACE: Duration = Duration::from_millis(300);

/// The status of what was ended for taking too long.
const TIMED_OUT: i32 = 124;

/// How long a control plane may take to tell of the nodes.
const NODES_LIMIT: Duration = Duration::from_secs(10);

/// Nodes, and bundles with what became of their objects. When a bundle is applied, its objects are noted beside its hash,
/// with a sum over their uids and the fields that rsadm is the manager of (server-side apply): an object that is gone
/// and a field that somebody else has set since are seen, and what others add is not. Where no object at all is found,
/// that is taken for no answer: nobody deletes kubeadm's ConfigMaps and the roles along with an add-on.
const NODES: Script =
    Script { name: "nodes", text: concat!(include_str!("objects.sh"), include_str!("nodes.sh")) };

/// Facts of a host and then what it tells of the nodes, which it asks for while it gathers the facts: an API server is
/// slower to answer than all the rest together.
const FACTS_AND_NODES: Script = Script {
    name: "facts-and-nodes",
    text: concat!(
        "n() {\n",
        include_str!("objects.sh"),
        include_str!("nodes.sh"),
        "}\nexec 4< <(n $1)\n",
        include_str!("facts.sh"),
        "cat <&4\n",
    ),
};

/// Sees all hosts that are connected: one execution each, read only, in which the first control plane tells of the nodes
/// too. Where it does not, the others are asked.
///
/// # Errors
/// Every host that could not be asked.
pub async fn gather(cluster: &Cluster, fleet: &Fleet) -> Result<Observed, Vec<HostError>> {
    let speaker = cluster.with_role(Role::ControlPlane).next();
    let (mut seen, errors) = hosts(cluster, fleet, speaker, Duration::from_secs(30)).await;
    if !errors.is_empty() {
        return Err(errors);
    }
    if seen.nodes.is_none() {
        nodes(cluster, fleet, speaker, &mut seen).await;
    }
    Ok(seen)
}

/// The same with what can be seen by a deadline, and why the rest was not: for commands that tell how things are.
pub async fn gather_what_answers(
    cluster: &Cluster,
    fleet: &Fleet,
    due: Instant,
) -> (Observed, Vec<HostError>) {
    let (mut seen, errors) = gather_hosts_that_answer(cluster, fleet, due).await;
    // What is not written until then is left out: with etcd's quorum lost, no API server lists nodes.
    let _ = timeout_at(due, nodes(cluster, fleet, None, &mut seen)).await;
    (seen, errors)
}

/// The same of hosts alone, and no API server is asked.
pub async fn gather_hosts_that_answer(
    cluster: &Cluster,
    fleet: &Fleet,
    due: Instant,
) -> (Observed, Vec<HostError>) {
    hosts(cluster, fleet, None, due.saturating_duration_since(Instant::now())).await
}

/// Facts of all connected hosts, each of which may take so long; and what the speaker tells of the nodes.
async fn hosts(
    cluster: &Cluster,
    fleet: &Fleet,
    speaker: Option<&Node>,
    limit: Duration,
) -> (Observed, Vec<HostError>) {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|h| h.name().clone()).collect();
    let answers = fleet
        .for_each(&names, |host| {
            let op = match speaker.filter(|node| node.name == *host.name()) {
                Some(node) => Op::Script(FACTS_AND_NODES, vec![node.api_url(cluster.api.port)], limit),
                None => Op::Script(parser::SCRIPT, vec![], limit),
            };
            async move { facts_of(&host, op, limit).await }
        })
        .await;
    let mut seen = Observed::default();
    let mut errors = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok((facts, told)) => {
                seen.hosts.insert(name, facts);
                if let Some(told) = told {
                    seen = Observed { hosts: seen.hosts, ..told };
                }
            }
            Err(error) => errors.push(error),
        }
    }
    (seen, errors)
}

/// Runs the script that tells facts, and maybe of the nodes after them.
async fn facts_of(
    host: &Arc<dyn Host>,
    op: Op,
    limit: Duration,
) -> Result<(Facts, Option<Observed>), HostError> {
    let asked_at = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    let silent = || lost(host, format!("no answer within {:.1} s", limit.as_secs_f64()));
    let output = timeout(limit + GRACE, host.run(&[op], true)).await.map_err(|_| silent())??.pop();
    let output = output.unwrap_or_default();
    if output.status == TIMED_OUT {
        return Err(silent());
    }
    let text = output.text();
    let mut facts = parser::parse(&text).map_err(|e| lost(host, format!("{e}: {}", output.stderr.trim())))?;
    facts.asked_at = asked_at;
    Ok((facts, text.split_once("\nend\n").and_then(|(_, nodes)| parse(nodes))))
}

fn lost(host: &Arc<dyn Host>, why: String) -> HostError {
    HostError::Lost { host: host.name().clone(), doing: "look around".into(), why }
}

/// Asks the first control plane whose API server answers, but for one that was asked already.
async fn nodes(cluster: &Cluster, fleet: &Fleet, asked: Option<&Node>, seen: &mut Observed) {
    for node in cluster.with_role(Role::ControlPlane) {
        let runs = seen.hosts.get(&node.name).is_some_and(|f| f.runs("kube-apiserver"));
        if !runs || asked.is_some_and(|a| a.name == node.name) {
            continue;
        }
        let Some(host) = fleet.host(&node.name) else { continue };
        let ask = Op::Script(NODES, vec![node.api_url(cluster.api.port)], NODES_LIMIT);
        let Ok(outputs) = host.run(&[ask], false).await else { continue };
        let Some(told) = outputs.first().and_then(|o| parse(&o.text())) else { continue };
        *seen = Observed { hosts: std::mem::take(&mut seen.hosts), ..told };
        return;
    }
}

/// Reads what `nodes.sh` printed; `None` where it broke off.
fn parse(text: &str) -> Option<Observed> {
    let mut seen = Observed::default();
    let nodes = seen.nodes.get_or_insert_default();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (word, name) = (words.next()?, words.next().unwrap_or_default());
        let (value, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match word {
            "end" => return Some(seen),
            "node" => {
                let node = nodes.entry(NodeName::new(name)).or_default();
                node.ready = value == "True";
                node.managed = rest.trim().into();
            }
            "address" => {
                if let Ok(address) = value.parse() {
                    nodes.entry(NodeName::new(name)).or_default().address.get_or_insert(address);
                }
            }
            "label" => {
                if let Some((key, value)) = value.split_once('=') {
                    nodes.entry(NodeName::new(name)).or_default().labels.insert(key.into(), value.into());
                }
            }
            "taint" => nodes.entry(NodeName::new(name)).or_default().taints.push(value.into()),
            "bundle" => drop(seen.bundles.insert(name.into(), value.into())),
            "edited" => drop(seen.edited.insert(name.into())),
            "damaged" => drop(seen.damaged.insert(name.into(), format!("{value} {rest}"))),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_bundles_are_read() {
        let text = "node m1 True a,b:NoSchedule\naddress m1 10.0.0.1\nlabel m1 a=1\ntaint m1 b:NoSchedule\nnode w1 \nbundle coredns ab12\n\
            damaged coredns Deployment/coredns gone\nedited ConfigMap\nend\n";
        let Observed { nodes, bundles, damaged, edited, .. } = parse(text).unwrap();
        let nodes = nodes.unwrap();
        let m1 = &nodes[&NodeName::new("m1")];
        assert!(m1.ready && !nodes[&NodeName::new("w1")].ready);
        assert_eq!(
            (m1.managed.as_str(), m1.labels["a"].as_str(), &m1.taints[..]),
            ("a,b:NoSchedule", "1", &["b:NoSchedule".to_owned()][..])
        );
        assert_eq!(m1.address, Some([10, 0, 0, 1].into()));
        assert_eq!((&*bundles["coredns"], &*damaged["coredns"]), ("ab12", "Deployment/coredns gone"));
        assert_eq!(edited, ["ConfigMap".to_owned()].into());
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(parse("node m1 True \n"), None);
    }
}
