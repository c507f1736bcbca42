//! What `etcd add`, `remove` and `replace` have in common: the membership that is wanted, and the way to it.
//!
//! All three plan the same phases that `up` has for a changed inventory, restricted to members: a host that is not
//! concerned stays as it is, and so does a cluster that kubeadm built.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::{
    backup::room,
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        naming::has_hosts,
        session::{Consent, Recording, Session, goes_on_without, recorded},
    },
    etcd::status::{EtcdReport, MemberReport},
    event::{Event, bytes},
    exec::{
        ask, gate, lookup,
        members::SshMembers,
        paths::{self, Scope},
    },
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Facts, Observed},
    phases::{
        self, ETCD_MEMBERS,
        etcd::{members, wish},
        preflight,
    },
    plan::{Refusal, quorum},
};

mod apart;
mod outcome;

use apart::Apart;

/// What is to become of the membership.
pub(super) struct Wish {
    /// The command as it has to be typed, without `rsadm`.
    pub(super) command: String,
    /// The inventory, as it has to be typed behind another command.
    pub(super) inventory: String,
    /// Hosts that are to be members.
    pub(super) join: Vec<NodeName>,
    /// Hosts that are to be members no more; in both, it leaves and joins anew.
    pub(super) leave: Vec<NodeName>,
    /// Whether that may cost the quorum.
    pub(super) gate: GateArgs,
}

/// How long somebody else's learner may take: `kubeadm join` gives its own a little less.
const TURN: Duration = Duration::from_secs(120);

/// A cluster whose members can be asked, with all its locks taken.
pub(super) struct Ground<'a> {
    session: Session<'a>,
    consent: Consent,
    seen: Observed,
    /// Bytes of the largest member's database.
    database: u64,
    /// Members of other clusters that serve.
    apart: Apart,
    report: Recording,
}

impl<'a> Ground<'a> {
    /// Connects to control planes, etcd hosts and those that are concerned, as far as they answer; looks at them and at
    /// the membership.
    pub(super) async fn open(
        context: &'a Context,
        arg: &InventoryArg,
        wish: &Wish,
    ) -> Result<Self, CliError> {
        let (events, report) = recorded(context);
        let concerned = |n: &Node| {
            n.is(Role::Etcd)
                || n.is(Role::ControlPlane)
                || wish.join.contains(&n.name)
                || wish.leave.contains(&n.name)
        };
        let cluster = context.load_gated(arg, &wish.gate)?;
        // Dead or alive, a host has to be in it to be reached.
        has_hosts(&cluster, &wish.leave, None)?;
        has_hosts(&cluster, &wish.join, None).map_err(unwritten)?;
        let (session, silent) = Session::connect(context, cluster, events, concerned, None).await?;
        if session.fleet.hosts().is_empty() || silent.iter().any(|e| wish.join.contains(e.host())) {
            let error = session.not_begun(&silent);
            return Err(match wish.join.iter().find(|host| wish.leave.contains(host)) {
                Some(host) => {
                    let typed = arg.as_typed();
                    // A bare host becomes a node first.
                    let first = match session.cluster.node(host).is_some_and(Node::is_kubernetes) {
                        true => format!(
                            "its line instead of {host}'s, then rsadm up{typed}; where kubeadm built, kubeadm join there, then "
                        ),
                        false => String::new(),
                    };
                    error.hint(format!(
                        "if {host} is gone for good, another host can have its place: {first}rsadm etcd replace{typed} {host} \
                         NEW_HOST"
                    ))
                }
                None => error,
            });
        }
        goes_on_without(&session.events, &silent);
        let consent = session.consent(&wish.gate)?;
        session.lock(&wish.command).await?;
        let (mut seen, lost) = session.observe_what_answers().await;
        if let Some(error) = lost.iter().find(|e| wish.join.contains(e.host())) {
            return Err(session.not_begun(std::slice::from_ref(error)));
        }
        goes_on_without(&session.events, &lost);
        let members = session.members();
        let limit = context.options.timeout.unwrap_or(TURN);
        let found = turn(&session, &members, limit).await;
        let database = found.members.iter().filter_map(|m| m.db_size).max().unwrap_or_default();
        seen.membership = lookup::membership(&found);
        if seen.membership.is_none() {
            members::listens(&session.cluster, &seen)?;
            return Err(no_quorum().into());
        }
        let apart = Apart::of(&found);
        Ok(Self { session, consent, seen, database, apart, report })
    }

    /// Does it, and says what to do about the inventory.
    pub(super) async fn fulfil(mut self, wish: &Wish, context: &Context) -> Result<Exit, CliError> {
        let target = wish::target(&self.session.cluster, &mut self.seen, &wish.join, &wish.leave);
        only_the_named(&self.session.cluster, &self.seen, wish)?;
        self.newcomers(&target, wish)?;
        for host in &wish.join {
            has_room(host, self.seen.hosts.get(host), self.database)?;
        }
        self.reaches_members(&target, &wish.join).await?;
        let made =
            phases::plan(ETCD_MEMBERS, &target, self.seen.clone(), OffsetDateTime::now_utc(), |_| true)?;
        let (plan, _) = made;
        if let Some(question) = self.apart.question(&plan.hosts(), &wish.inventory) {
            context.confirm(&question, &self.session.cluster.name)?;
        }
        let text = match plan.is_empty() {
            true => "nothing to change".to_owned(),
            false => {
                self.session.notices(&plan);
                let (command, consent) = (&wish.command, self.consent);
                self.session.execute_for(&target, command, &plan, self.seen, consent).await?;
                super::alarm::warn_where_full(&self.session, &target).await;
                // The members themselves: who was not well before is counted as what it is.
                let members = self.session.members();
                outcome::came_to(&gate::settled(&members).await)
            }
        };
        let next = outcome::next(&self.session.cluster, &target, wish);
        let elapsed = self.session.elapsed();
        self.session.events.emit(Event::Finished { text, changed: plan.changes(), elapsed, next });
        self.report.print(context)?;
        Ok(Exit::Done)
    }

    /// Whether who joins and the members reach one another, before anybody leaves for its sake: etcd gives a learner that
    /// the leader cannot reach no vote, and by then the place of the old member is lost.
    async fn reaches_members(&self, target: &Cluster, join: &[NodeName]) -> Result<(), CliError> {
        let mut there = target.clone();
        let serves = |n: &Node| self.seen.hosts.get(&n.name).is_some_and(|f| f.runs("etcd"));
        there.nodes.retain(|n| {
            let takes_part = join.contains(&n.name) || n.is(Role::ControlPlane) || serves(n);
            takes_part && self.session.fleet.host(&n.name).is_some()
        });
        let tried = paths::attempt(&there, &self.session.fleet, &self.seen, Scope::Members(join))
            .await
            .map_err(|errors| self.session.not_begun(&errors))?;
        match tried.findings.refusal() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    /// A host that has nothing of the cluster yet is looked at as `up` would; a node is a node before it is a member.
    fn newcomers(&self, target: &Cluster, wish: &Wish) -> Result<(), CliError> {
        for node in target.nodes.iter().filter(|n| wish.join.contains(&n.name)) {
            let Some(facts) = self.seen.hosts.get(&node.name) else { continue };
            if facts.runs("kubelet") || facts.identity.is_some() {
                continue;
            }
            if node.is_kubernetes() {
                let makes_two = makes_two(&self.session.cluster, &self.seen);
                return Err(node_first(&node.name, wish, makes_two).into());
            }
            if let Some(refusal) = preflight::newcomer(target, node, &self.seen.hosts).refusal() {
                return Err(refusal.into());
            }
        }
        Ok(())
    }
}

/// Whether `up`, which makes no two members, would have to: there is one alone, and the inventory has no third host for one.
fn makes_two(inventory: &Cluster, seen: &Observed) -> bool {
    let voters = seen.membership.iter().flatten().filter(|m| !m.learner).count();
    voters == 1 && inventory.with_role(Role::Etcd).count() < 3
}

/// A bare host that is to be a node becomes one first, by `up`, and a member with it unless that would be the second.
fn node_first(host: &NodeName, wish: &Wish, makes_two: bool) -> Refusal {
    Refusal {
        rule: "node-first",
        subject: format!("{host} cannot become a member of etcd alone"),
        why: "it is to be a node of Kubernetes and is none yet".into(),
        help: match (wish.leave.contains(host), makes_two) {
            (true, _) => format!(
                "rsadm etcd remove {host} takes its old member out; then rsadm up joins it as a whole, its new member \
                 included"
            ),
            (false, true) => {
                format!(
                    "without the role etcd in the inventory, rsadm up makes {host} a node; then run this again"
                )
            }
            (false, false) => {
                "rsadm up joins it as a whole, its member included, and takes those out that the inventory \
                               does not have any more, dead ones too"
                    .into()
            }
        },
    }
}

/// Whether a host can take what the leader sends it, before anybody leaves for its sake: the database, and two files of etcd's
/// log, which it makes in full size. What a former member left there stays.
fn has_room(host: &NodeName, facts: Option<&Facts>, database: u64) -> Result<(), Refusal> {
    let Some(free) = facts.and_then(|f| f.disk.get(layout::ETCD_DATA_DIR)).copied() else { return Ok(()) };
    let needed = room::beside_the_log(database);
    if free >= needed {
        return Ok(());
    }
    Err(Refusal {
        rule: "no-room",
        subject: format!("{host} cannot become a member of etcd"),
        why: format!(
            "it has {} free below {}, and etcd's data takes {}",
            bytes(free),
            layout::ETCD_DATA_DIR,
            bytes(needed)
        ),
        help: format!(
            "make room there (df -h {}), then run this again; what former members left is in {} or {}/aside",
            layout::ETCD_DATA_DIR,
            layout::ASIDE_DIR,
            layout::ETCD_DATA_DIR
        ),
    })
}

/// Whether all that would change is what was named: a host with an etcd that is no member would be cleared as well, which
/// an old inventory brings about.
fn only_the_named(inventory: &Cluster, seen: &Observed, wish: &Wish) -> Result<(), Refusal> {
    members::moved(inventory, seen)?;
    let is_named = |n: &Node| wish.join.contains(&n.name) || wish.leave.contains(&n.name);
    let is_listed = |n: &Node| seen.membership.iter().flatten().any(|m| m.peer_url == n.peer_url());
    let has_etcd =
        |n: &Node| seen.hosts.get(&n.name).is_some_and(|f| f.etcd_manifest.is_some() || f.etcd_data);
    // What a host serves that missed a restore is of no use to anybody, and may well be set aside along with the rest.
    let is_old = |n: &Node| seen.old_cluster_of(&n.name).is_some();
    let left = inventory.nodes.iter().find(|n| has_etcd(n) && !is_named(n) && !is_listed(n) && !is_old(n));
    let Some(Node { name, .. }) = left else { return Ok(()) };
    Err(Refusal {
        rule: "only-the-named",
        subject: format!("etcd on {name} would be cleared too"),
        why: format!(
            "{name} has an etcd or its data, is no member of the cluster, and was not named; nothing was changed"
        ),
        help: format!(
            "first: `rsadm etcd remove {name}` sets its data aside, `rsadm etcd add {name}` makes it a member"
        ),
    })
}

/// How the members are, once a quorum tells it, for elections end, and no learner at a strange host is among them: etcd takes
/// one at a time, and a `kubeadm join` beside this one has begun. Where it does not end in time, the gate tells of it.
async fn turn(session: &Session<'_>, members: &SshMembers<'_>, limit: Duration) -> EtcdReport {
    let until = Instant::now() + limit;
    let patience = gate::PATIENCE.min(limit);
    let quorum_due = Instant::now() + patience;
    let mut waits = false;
    let known: Vec<String> = session.cluster.nodes.iter().map(Node::peer_url).collect();
    let mut told = false;
    loop {
        let report = ask::report(members).await;
        if lookup::membership(&report).is_none() && Instant::now() < quorum_due {
            if !std::mem::replace(&mut waits, true) {
                let text = format!("waits for etcd, {} s at most: no quorum answers", patience.as_secs());
                session.events.warn(text, None);
            }
            sleep(Duration::from_millis(500)).await;
            continue;
        }
        let stranger = |m: &&MemberReport| m.is_learner && !m.peer_urls.iter().any(|url| known.contains(url));
        let Some(learner) = report.members.iter().find(stranger).filter(|_| Instant::now() < until) else {
            return report;
        };
        if !told {
            let at = learner.peer_urls.join(", ");
            let wait = format!(
                "waits for its turn: a learner at {at} has no vote yet, and etcd takes one at a time"
            );
            session.events.warn(wait, Some("where nobody will start it: rsadm up takes it out".into()));
            told = true;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// A host that is to join is in no inventory yet.
fn unwritten(error: CliError) -> CliError {
    error.hint("a new host is written into the inventory first: - {name: …, address: …, roles: [etcd]}")
}

fn no_quorum() -> Refusal {
    let why = "no quorum answers, and a change is a write that takes one";
    Refusal {
        help: "rsadm etcd status shows which members are missing; where they cannot be started again, \
               rsadm etcd recover goes on from the best survivor"
            .into(),
        ..quorum::none("etcd's membership cannot be changed", why)
    }
}

#[cfg(test)]
mod tests;
