//! `rsadm reset`.

use std::{collections::BTreeSet, fmt};

use serde_json::json;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        session::{Session, recorded},
    },
    etcd::status::{EtcdReport, MemberReport},
    event::{Event, count},
    exec::{gate, members::SshMembers},
    host::HostError,
    inventory::{Cluster, Node, NodeName, Role},
    observe::Observed,
    phases::{RESET, etcd::PROCESS},
    plan::{Plan, Refusal, quorum::quorum},
    ui::{lines::one_line, text::indent},
};

/// Take the cluster down and leave its hosts as they were before up
#[derive(clap::Args, Debug)]
#[command(after_help = "\
All data of the cluster is lost, etcd's included. It asks for the cluster's name first, or
takes --yes. Goes on past hosts and steps that fail, and says at the end what is left.
Members of etcd that the inventory does not have stay; where that would cost them their
quorum, it refuses.

Examples:
  rsadm reset inventories/prod.yaml
  rsadm reset --yes")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    #[command(flatten)]
    pub(super) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded(context);
    let (mut session, mut silent) = Session::open_what_answers(context, &args.inventory, events).await?;
    if session.fleet.hosts().is_empty() {
        return Err(session.not_begun(&silent));
    }
    let (seen, lost) = session.observe_what_answers().await;
    silent.extend(lost);
    let seen = seen.despite_restore();
    let (plan, _) = session.plan(RESET, seen.clone(), |_| true)?;
    if !plan.is_empty() {
        let others = others(&session, &plan, &seen).await;
        session.consent(&args.gate)?;
        if let Some(refusal) = others.as_ref().and_then(|o| o.refusal(&args.inventory.as_typed()))
            && !session.accepts_quorum_loss()
        {
            return Err(refusal.into());
        }
        let question = question(&session.cluster, &plan, &silent, others.as_ref());
        context.confirm(&question, &session.cluster.name)?;
    }
    let command = format!("reset{}", args.inventory.as_typed());
    let outcome = wipe(&session, &command, &mut silent).await;
    if let Some(error) = unfinished(outcome.as_ref().err(), &silent, &command) {
        return Err(error);
    }
    let changed = outcome?;
    let hosts = count(session.cluster.nodes.len(), "host");
    let text = match changed {
        0 => format!("nothing of rsadm is on {hosts}"),
        _ => format!("{hosts} as before"),
    };
    session.events.emit(Event::Finished { text, changed, elapsed: session.elapsed(), next: vec![] });
    report.print(context)?;
    Ok(Exit::Done)
}

/// What etcd says of members that the inventory does not have; nothing is asked where no etcd runs that would be wiped.
async fn others(session: &Session<'_>, plan: &Plan, seen: &Observed) -> Option<Others> {
    let hosts = plan.hosts();
    if !hosts.iter().any(|host| seen.hosts.get(*host).is_some_and(|f| f.runs(PROCESS))) {
        return None;
    }
    let members = SshMembers::new(&session.cluster, &session.fleet);
    let report = gate::report(&members, time::OffsetDateTime::now_utc()).await;
    Others::of(&session.cluster, &hosts, &report)
}

/// Members of the same etcd at hosts that the inventory does not have: they outlive the reset of the others, and their
/// member list still counts these.
struct Others {
    /// Their names and addresses.
    names: Vec<String>,
    /// Hosts whose members are wiped.
    wiped: Vec<String>,
    /// All voters before.
    voters: usize,
    /// Those that are well and stay.
    left: usize,
    /// True where etcd serves before.
    serves: bool,
}

impl Others {
    /// `None` where the inventory has every member.
    fn of(cluster: &Cluster, wiped: &BTreeSet<&NodeName>, report: &EtcdReport) -> Option<Self> {
        let node = |m: &MemberReport| cluster.nodes.iter().find(|n| m.peer_urls.contains(&n.peer_url()));
        let listed = || report.members.iter().filter(|m| m.id.is_some());
        let is_wiped = |n: &Node| wiped.contains(&n.name);
        let stays = |m: &&MemberReport| !node(m).is_some_and(is_wiped);
        let name = |m: &MemberReport| format!("{} ({})", m.name, m.peer_urls.join(", "));
        let names: Vec<String> = listed().filter(|m| node(m).is_none()).map(name).collect();
        (!names.is_empty()).then(|| Self {
            names,
            wiped: listed().filter_map(node).filter(|n| is_wiped(n)).map(|n| n.name.to_string()).collect(),
            voters: report.quorum.voters,
            left: listed().filter(stays).filter(|m| m.healthy && !m.is_learner).count(),
            serves: report.serves,
        })
    }

    fn told(&self) -> String {
        let (names, are) = (self.names.join(", "), if self.names.len() == 1 { "is" } else { "are" });
        let they = if self.names.len() == 1 { "a member" } else { "members" };
        format!("{names} {are} {they} of the same etcd and not in this inventory")
    }

    fn outcome(&self) -> String {
        format!("{} of {} voters, and {} are needed", self.left, self.voters, quorum(self.voters))
    }

    /// Why it may not be; `None` where a quorum stays, or there was none before.
    fn refusal(&self, inventory: &str) -> Option<Refusal> {
        if !self.serves || self.wiped.is_empty() || self.left >= quorum(self.voters) {
            return None;
        }
        let first = self.wiped.first().map(String::as_str).unwrap_or_default();
        Some(Refusal {
            rule: "quorum",
            subject: format!("a reset of {} would leave etcd {}", self.wiped.join(", "), self.outcome()),
            why: format!("{}: what stays could serve nothing any more; nothing was changed", self.told()),
            help: format!(
                "to take hosts out of the cluster: rsadm etcd remove{inventory} {first} first, one after the other; to \
                 take all of it down: reset with an inventory that has every host; \
                 rsadm reset{inventory} --accept-quorum-loss does it all the same"
            ),
        })
    }
}

/// Looks again under the locks, and wipes; how many hosts.
async fn wipe(session: &Session<'_>, command: &str, silent: &mut Vec<HostError>) -> Result<usize, CliError> {
    session.lock("reset").await?;
    let (seen, lost) = session.observe_what_answers().await;
    silent.extend(
        lost.into_iter().filter(|e| !silent.iter().any(|s| s.host() == e.host())).collect::<Vec<_>>(),
    );
    let seen = seen.despite_restore();
    let (plan, _) = session.plan(RESET, seen.clone(), |_| true)?;
    session.notices(&plan);
    session.execute(command, &plan, seen).await?;
    Ok(plan.changes())
}

/// What is about to be lost, a line each.
fn question(cluster: &Cluster, plan: &Plan, silent: &[HostError], others: Option<&Others>) -> String {
    let hosts: Vec<&str> = plan.hosts().into_iter().map(NodeName::as_str).collect();
    let members = cluster.with_role(Role::Etcd).filter(|n| hosts.contains(&n.name.as_str())).count();
    let mut text = format!("This removes the cluster {} from {}:\n", cluster.name, hosts.join(" "));
    if members > 0 {
        text.push_str(&format!(
            "  all data of {}, with everything that is stored in the cluster\n",
            count(members, "etcd member")
        ));
    }
    text.push_str(
        "  all pods with their local volumes, certificates with the cluster's authorities, and programs\n",
    );
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|e| e.host().as_str()).collect();
        text.push_str(&format!("It does not reach {}, which keep what they have.\n", names.join(", ")));
    }
    if let Some(others) = others {
        let mut told = others.told();
        told.push_str(": it keeps what it has, and goes on counting the members that are removed here.\n");
        if !others.wiped.is_empty() {
            told.push_str(&format!("Its etcd then has {}.\n", others.outcome()));
        }
        text.push_str(&told);
    }
    text.push_str("Nothing of it can be brought back.");
    text
}

/// The error of a reset that could not do everything; `None` where another error says more.
fn unfinished(failed: Option<&CliError>, silent: &[HostError], command: &str) -> Option<CliError> {
    let failed_steps = match failed {
        None => None,
        Some(error) if error.kind() == Exit::StepFailed => Some(error.message()),
        Some(_) => return None,
    };
    if failed_steps.is_none() && silent.is_empty() {
        return None;
    }
    let hosts: Vec<_> = silent.iter().map(|e| json!({"host": e.host(), "message": e.to_string()})).collect();
    let error = Unfinished { failed: failed_steps, silent: silent.to_vec() };
    Some(CliError::new(Exit::StepFailed, error).detail("not_reached", json!(hosts)).hint(format!(
        "rsadm {command} does what is left once the cause is mended; a host that is gone for good can be taken out of \
         the inventory"
    )))
}

#[derive(Debug)]
struct Unfinished {
    failed: Option<String>,
    silent: Vec<HostError>,
}

impl std::error::Error for Unfinished {}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reset is not complete")?;
        if let Some(failed) = &self.failed {
            write!(f, "\n{}", indent(failed, 2).trim_end())?;
        }
        for error in &self.silent {
            write!(
                f,
                "\n{}",
                indent(&format!("{} keeps what it has: {}", error.host(), one_line(&error.to_string())), 2)
                    .trim_end()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{etcd::status::tests::Scene, manifests::testing};

    #[test]
    fn part_of_a_cluster_is_not_reset_at_the_quorums_cost() {
        let whole = || Scene::new(3);
        let lost = || whole().silence(1, "connection refused").silence(2, "no answer").without_quorum();
        type Case = (Scene, &'static [&'static str], Option<&'static str>, Option<&'static str>);
        let cases: [Case; 5] = [
            (whole(), &[], None, None),
            (
                whole(),
                &["m1"],
                Some("1 of 3 voters, and 2 are needed"),
                Some("a reset of m2, m3 would leave etcd"),
            ),
            (whole(), &["m1", "m2"], Some("2 of 3 voters, and 2 are needed"), None),
            (
                whole().silence(1, "connection refused"),
                &["m1", "m2"],
                Some("1 of 3 voters, and 2 are needed"),
                Some("a reset of m3 would leave etcd"),
            ),
            (lost(), &["m1"], Some("0 of 3 voters, and 2 are needed"), None),
        ];
        for (scene, lacking, outcome, refused) in cases {
            let mut cluster = testing::ha();
            cluster.nodes.retain(|n| !lacking.contains(&n.name.as_str()));
            let wiped: BTreeSet<&NodeName> = cluster.nodes.iter().map(|n| &n.name).collect();
            let others = Others::of(&cluster, &wiped, &scene.report());
            assert_eq!(others.as_ref().map(Others::outcome).as_deref(), outcome, "without {lacking:?}");
            let refusal = others.as_ref().and_then(|o| o.refusal(" part.yaml"));
            let begins = refusal.as_ref().map(|r| r.subject.starts_with(refused.unwrap_or("nothing")));
            assert_eq!(begins, refused.map(|_| true), "without {lacking:?}: {refusal:?}");
            let plan = Plan::default();
            let asked = question(&cluster, &plan, &[], others.as_ref());
            for name in lacking {
                assert!(asked.contains(&format!("{name} (https://10.0.0.")), "{asked}");
            }
        }
    }

    #[test]
    fn the_refusal_says_who_stays_and_the_ways_out() {
        let mut cluster = testing::ha();
        cluster.nodes.retain(|n| n.name.as_str() != "m1");
        let wiped: BTreeSet<&NodeName> = cluster.nodes.iter().map(|n| &n.name).collect();
        let others = Others::of(&cluster, &wiped, &Scene::new(3).report()).unwrap();
        let refusal = others.refusal(" part.yaml").unwrap();
        assert_eq!(
            refusal.why,
            "m1 (https://10.0.0.1:2380) is a member of the same etcd and not in this inventory: what stays could serve \
             nothing any more; nothing was changed"
        );
        assert!(refusal.help.contains("rsadm etcd remove part.yaml m2 first"), "{}", refusal.help);
    }
}
