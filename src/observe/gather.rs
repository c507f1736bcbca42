//! Asking all hosts at once; and one control plane about nodes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Facts, Observed, WorkloadFact,
    parser::{self, Incomplete},
};
use crate::{
    host::{Host, HostError, Op, Script, TIMED_OUT, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
};

/// A host that is told to stop gets so long to say so.
const GRACE: Duration = Duration::from_millis(300);

/// What hangs gets so long before it is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a host is asked here, for its errors.
const LOOK: &str = "look around";

/// How long a host may take to tell its facts. It is half a second on an idle one.
const LIMIT: Duration = Duration::from_secs(30);

/// How long each of the two questions about the nodes may take, and both, where a plan hangs on the answer; on a busy host they take
/// long.
const NODES: (&str, Duration) = ("14", LIMIT);

/// The same where somebody waits for how things are.
const NODES_AT_ONCE: (&str, Duration) = ("9", Duration::from_secs(10));

/// Nodes, and bundles with what became of their objects. When a bundle is applied, its objects are noted beside its hash,
/// with a sum over their uids and the fields that rsadm is the manager of (server-side apply): an object that is gone
/// and a field that somebody else has set since are seen, and what others add is not. Where no object at all is found,
/// that is taken for no answer: nobody deletes kubeadm's ConfigMaps and the roles along with an add-on.
const NODES_SCRIPT: Script =
    Script { name: "nodes", text: concat!(include_str!("objects.sh"), include_str!("nodes.sh")) };

/// Facts of a host and then what it tells of the nodes, which it asks for while it gathers the facts: an API server is
/// slower to answer than all the rest together.
const FACTS_AND_NODES: Script = Script {
    name: "facts-and-nodes",
    text: concat!(
        "n() {\n",
        include_str!("objects.sh"),
        include_str!("nodes.sh"),
        "}\nexec 4< <(n $1 $2)\n",
        include_str!("facts.sh"),
        "cat <&4\n",
    ),
};

/// Sees all hosts that are connected: one execution each, read only, in which the first control plane tells of the nodes
/// too. Where it does not, the others are asked, or it once more. A host on which the look around hangs gets another one: nothing was done
/// yet, and no run has to end for the sake of one program that gave no answer once.
///
/// # Errors
/// Every host that could not be asked.
pub async fn gather(cluster: &Cluster, fleet: &Fleet) -> Result<Observed, Vec<HostError>> {
    let speaker = cluster.with_role(Role::ControlPlane).next();
    let (mut seen, errors) = hosts(cluster, fleet, speaker, &[LIMIT; 2]).await;
    if !errors.is_empty() {
        return Err(errors);
    }
    if seen.nodes.is_none() {
        let mut asked: Vec<&Node> = cluster.with_role(Role::ControlPlane).collect();
        // Where there is no other than the speaker, that may just have been busy.
        if asked.len() > 1 {
            asked.remove(0);
        }
        nodes(cluster, fleet, &asked, NODES, &mut seen).await;
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
    let all: Vec<&Node> = cluster.with_role(Role::ControlPlane).collect();
    let _ = timeout_at(due, nodes(cluster, fleet, &all, NODES_AT_ONCE, &mut seen)).await;
    (seen, errors)
}

/// The same of hosts alone, and no API server is asked.
pub async fn gather_hosts_that_answer(
    cluster: &Cluster,
    fleet: &Fleet,
    due: Instant,
) -> (Observed, Vec<HostError>) {
    hosts(cluster, fleet, None, &[due.saturating_duration_since(Instant::now())]).await
}

/// Facts of all connected hosts, each of which may take so long, and is looked at again where it hangs for as often as
/// there are limits; and what the speaker tells of the nodes.
async fn hosts(
    cluster: &Cluster,
    fleet: &Fleet,
    speaker: Option<&Node>,
    limits: &[Duration],
) -> (Observed, Vec<HostError>) {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|h| h.name().clone()).collect();
    let answers = fleet
        .for_each(&names, |host| {
            let (script, arguments) = match speaker.filter(|node| node.name == *host.name()) {
                Some(node) => (FACTS_AND_NODES, vec![node.api_url(cluster.api.port), NODES.0.to_owned()]),
                None => (parser::SCRIPT, vec![]),
            };
            async move {
                let mut told = Err(hangs(&host, "no time was left".to_owned()));
                for (before, limit) in limits.iter().enumerate() {
                    if before > 0 {
                        sleep(PAUSE).await;
                    }
                    told = facts_of(&host, Op::Script(script, arguments.clone(), *limit), *limit).await;
                    if !matches!(told, Err(HostError::Hangs { .. })) {
                        break;
                    }
                }
                told
            }
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
    let silent = format!("no answer within {:.1} s", limit.as_secs_f64());
    let output = timeout(limit + GRACE, host.run(&[op], true)).await;
    let output = output.map_err(|_| hangs(host, silent.clone()))??.pop().unwrap_or_default();
    let text = output.text();
    // Facts that are whole are taken, though the nodes were waited for in vain.
    let mut facts = parser::parse(&text).map_err(|broken| match (&broken, output.status) {
        // It is being started anew, which is over in a moment.
        (Incomplete::NoUnits, _) => hangs(host, broken.to_string()),
        (_, TIMED_OUT) => hangs(host, silent + &last_told(&text)),
        _ => HostError::Lost {
            host: host.name().clone(),
            doing: LOOK.into(),
            why: format!("{broken}: {}", output.stderr.trim()),
        },
    })?;
    facts.asked_at = asked_at;
    Ok((facts, text.split_once("\nend\n").and_then(|(_, nodes)| parse(nodes))))
}

/// How far a look around came that hangs, since what it would have told next is what does not answer.
fn last_told(text: &str) -> String {
    let last = text.lines().last().and_then(|line| line.split(' ').next());
    last.map(|word| format!("; the last that it told was `{word}`")).unwrap_or_default()
}

fn hangs(host: &Arc<dyn Host>, why: String) -> HostError {
    HostError::Hangs { host: host.name().clone(), doing: LOOK.into(), why }
}

/// Asks the first of these control planes whose API server answers.
async fn nodes(
    cluster: &Cluster,
    fleet: &Fleet,
    control: &[&Node],
    (seconds, limit): (&str, Duration),
    seen: &mut Observed,
) {
    for node in control {
        if !seen.hosts.get(&node.name).is_some_and(|f| f.runs("kube-apiserver")) {
            continue;
        }
        let Some(host) = fleet.host(&node.name) else { continue };
        let ask = Op::Script(NODES_SCRIPT, vec![node.api_url(cluster.api.port), seconds.to_owned()], limit);
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
            // What was noted beside it; it was compared on the host.
            "bundle" if name.contains('.') => {}
            "bundle" => drop(seen.bundles.insert(name.into(), value.into())),
            "edited" => drop(seen.edited.insert(name.into())),
            "workload" => {
                _ = seen.workloads.insert(name.to_lowercase(), workload(&format!("{value} {rest}")));
            }
            "damaged" => drop(seen.damaged.insert(name.into(), format!("{value} {rest}"))),
            _ => {}
        }
    }
    None
}

/// What a deployment or a daemon set says of itself, each in words of its own; what it does not say reads `<no value>`.
fn workload(text: &str) -> WorkloadFact {
    let numbers: Vec<usize> = text.split(',').map(|n| n.trim().parse().unwrap_or(0)).collect();
    let [generation, replicas, seen, scheduled, updated, updated_there, ready, ready_there] =
        std::array::from_fn(|i| numbers.get(i).copied().unwrap_or(0));
    WorkloadFact {
        noticed: generation == seen,
        wanted: replicas + scheduled,
        updated: updated + updated_there,
        ready: ready + ready_there,
    }
}

#[cfg(test)]
mod nodes_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::testing as stub, manifests::testing};

    #[test]
    fn nodes_and_bundles_are_read() {
        let text = "node m1 True a,b:NoSchedule\naddress m1 10.0.0.1\nlabel m1 a=1\ntaint m1 b:NoSchedule\nnode w1 \nbundle coredns ab12\n\
            damaged coredns Deployment/coredns gone\nedited ConfigMap\n\
            workload DaemonSet/x 2,<no value>,1,5,<no value>,4,<no value>,3\nworkload Deployment/y 1,2,1,<no value>,2,<no value>,2,<no value>\n\
            workload Deployment/new 1,2\nend\n";
        let Observed { nodes, bundles, damaged, edited, workloads, .. } = parse(text).unwrap();
        let fact = |noticed, wanted, updated, ready| WorkloadFact { noticed, wanted, updated, ready };
        let told = [
            ("daemonset/x", fact(false, 5, 4, 3)),
            ("deployment/y", fact(true, 2, 2, 2)),
            ("deployment/new", fact(false, 2, 0, 0)),
        ];
        assert_eq!(workloads, told.map(|(name, fact)| (name.to_owned(), fact)).into());
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

    /// What a look at a host that says so in the end comes to.
    async fn look(answers: Vec<(i32, &'static str)>) -> Result<Observed, String> {
        look_at(&testing::ha(), answers).await
    }

    async fn look_at(cluster: &Cluster, mut answers: Vec<(i32, &'static str)>) -> Result<Observed, String> {
        answers.reverse();
        let answers = std::sync::Mutex::new(answers);
        let host = stub::host(cluster.nodes[0].name.as_str(), move |_| {
            let (status, text) =
                answers.lock().unwrap().pop().expect("asked no more often than it has to be");
            stub::says(status, text)
        });
        let seen = gather(cluster, &Fleet::new(vec![host], 1)).await;
        seen.map_err(|errors| errors.iter().map(HostError::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_on_which_it_hangs_once_is_looked_at_again() {
        let seen = look(vec![(TIMED_OUT, "hostname m1\nswap 0"), (0, "hostname m1\nend\n")]).await.unwrap();
        assert_eq!(seen.hosts[&NodeName::new("m1")].hostname, "m1");
        assert_eq!(
            look(vec![(TIMED_OUT, ""), (TIMED_OUT, "hostname m1\nswap 0")]).await.unwrap_err(),
            "m1 was to look around, and hangs: no answer within 30.0 s; the last that it told was `swap`"
        );
        let units = "systemd 252\nunit kubelet active enabled\nend\n";
        assert!(look(vec![(0, "systemd 252\nend\n"), (0, units)]).await.is_ok(), "systemd was started anew");
        assert!(look(vec![(1, "hostname m1\n")]).await.unwrap_err().starts_with("lost the connection"));
    }

    #[tokio::test]
    async fn facts_are_taken_where_only_the_nodes_hang() {
        assert!(look(vec![(TIMED_OUT, "hostname m1\nend\nnode m1 True ")]).await.unwrap().nodes.is_none());
    }

    /// Where nobody else can tell of the nodes.
    #[tokio::test]
    async fn an_api_server_that_was_busy_is_asked_once_more() {
        let facts = "process kube-apiserver -\nend\n";
        for (nodes, told) in [("node m1 True \nend\n", true), ("node m1 True ", false)] {
            let seen = look_at(&testing::single(), vec![(0, facts), (0, nodes)]).await.unwrap();
            assert_eq!(seen.nodes.is_some(), told);
        }
    }

    /// bash writes one into a file, and with a full disk nothing is read from it: no nodes at all would be told.
    #[test]
    fn nothing_is_read_from_here_strings() {
        let asked = [FACTS_AND_NODES.text, include_str!("api_ready.sh"), include_str!("etcd_host.sh")];
        assert!(asked.iter().all(|text| !text.contains("<<")));
    }

    #[test]
    fn what_was_noted_beside_a_bundle_is_none() {
        let text = "bundle coredns ab12\nbundle coredns.objects v1 ConfigMap kube-system coredns\nbundle coredns.sum 12\nend\n";
        assert_eq!(
            parse(text).unwrap().bundles.into_iter().collect::<Vec<_>>(),
            [("coredns".into(), "ab12".into())]
        );
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(parse("node m1 True \n"), None);
    }
}
