//! The quorum gate: may this be done to etcd now, or would it cost the cluster its quorum?
//!
//! Asked just before each step that can cost a member, with the live membership and never with the inventory. A
//! change passes only if what stays healthy is a quorum of what the membership will then be (Cluster API's
//! `targetEtcdClusterHealthy`; etcd's own `mayRemoveMember` counts the same way). Where nothing is known of a member
//! it counts as unhealthy, and so does one that is about to get its vote, unless it is the second. The gate gives a
//! reason, not a bool.
//!
//! Learners never count. Nobody is added beside one; but a voter may leave or restart, since a learner that waits for
//! its vote until a dead voter is gone would else wait for ever.
//!
//! `rsadm reset` does not ask: members that it wipes go on being counted, and where no member gives its list all that
//! is known may be their number. It judges with the same [`Projection`] (`cli/reset/beside.rs`).

use std::fmt;

use super::Refusal;
use crate::layout;

mod membership;

pub use membership::{Learner, Membership, Reach, Voter};

/// What somebody wants to do to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stop one member and start it again: a new manifest, certificate or version.
    ///
    /// A roll-out asks this before each member, and nothing else before the first. With one member sick and none to spare
    /// the first restart of a healthy one is refused, which is all that a question beforehand could say; but the sick one
    /// itself may be restarted, and has to be: a roll-out that was killed, or that stopped at a member with settings that
    /// it does not start with, goes on there, and heals it.
    ///
    /// One or two voters need every one of them, so that each restart is an outage; whoever runs so small a cluster has
    /// chosen that. It passes, its projection does not stand, and who asks tells it.
    Restart {
        /// Whose.
        name: String,
        /// What takes it away.
        outage: Outage,
    },
    /// Take a member out for good. By ID: a member that never started has no name.
    Remove {
        /// Whose; no member of this ID means it is gone already.
        id: u64,
    },
    /// Add a member without a vote.
    AddLearner {
        /// Where other members will dial it.
        peer_url: String,
    },
    /// Give a learner its vote.
    ///
    /// It may fail with its first vote, on a host that has not shown yet what it can carry: the others have to be a quorum
    /// of all without it. The only voter has no such others, and no other way to ever get any.
    Promote {
        /// Whose; a voter of this ID means it was promoted already.
        id: u64,
    },
}

/// What takes a member away for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It is stopped, and started anew.
    Stop,
    /// It reads its certificates with every connection, and is lost to the others where one of them is of no use.
    Renew,
    /// It writes its database anew, and answers nobody meanwhile.
    Defragment,
}

/// As it stands before the member's name.
impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stopping etcd on",
            Self::Renew => "exchanging the certificates of etcd on",
            Self::Defragment => "defragmenting",
        })
    }
}

/// What the membership comes to while the change is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Voters there will be.
    pub voters: usize,
    /// Voters that are healthy then, at the worst moment.
    pub healthy: usize,
    /// Healthy voters it takes.
    pub quorum: usize,
}

/// The rule that an operator may override, knowing what it costs: the others stand for what etcd itself would not do, or
/// for data that would be gone.
const QUORUM: &str = "quorum";

/// The rule that a change is a write, which takes a quorum.
const NO_QUORUM: &str = "no-quorum";

/// The option by which an operator overrides it.
pub const OVERRIDE: &str = "--accept-quorum-loss";

/// True where an operator who accepts that etcd loses its quorum may go on all the same. A removal is still judged by
/// etcd's own count (`mayRemoveMember`), which sees members that only we cannot reach.
pub fn can_be_accepted(refusal: &Refusal) -> bool {
    refusal.rule == QUORUM
}

/// How many of `voters` are a majority.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Lets a change through with what it leads to, or refuses it.
///
/// # Errors
/// The rule that forbids it, who is not healthy, and what to do first.
pub fn gate(change: &Change, live: &Membership) -> Result<Projection, Refusal> {
    if live.voters.is_empty() && live.denied {
        let why = "its auth is on, and keeps from rsadm's client certificate how they are".to_owned();
        let help = GRANT.to_owned() + layout::ETCD_CLIENT_GRANT;
        return Err(refusal("membership-denied", "nothing is done to etcd's members", why, help));
    }
    if live.voters.is_empty() {
        let why = "the live membership of etcd is not known".to_owned();
        let subject = "nothing is done to etcd's members";
        return Err(refusal("membership-unknown", subject, why, START_ETCD.to_owned()));
    }
    match change {
        Change::Restart { name, outage } => restart(name, *outage, live),
        Change::Remove { id } => remove(*id, live),
        Change::AddLearner { peer_url } => add_learner(peer_url, live),
        Change::Promote { id } => promote(*id, live),
    }
}

/// Before the commands.
const GRANT: &str = "as etcd's root, give that certificate's user the role root, then run this again: ";

const START_ETCD: &str =
    "start etcd where it is stopped (its container's log tells why), then run this again";

fn restart(name: &str, outage: Outage, live: &Membership) -> Result<Projection, Refusal> {
    let doing = format!("{outage} {name}");
    if live.learners.iter().any(|l| l.name == name) {
        return Ok(live.now());
    }
    let Some(member) = live.voters.iter().find(|v| v.name == name) else {
        let why = format!("etcd has no member named {name}");
        let help = "compare the names that rsadm etcd status shows with those of the inventory".to_owned();
        return Err(refusal("unknown-member", &format!("{doing} is not done"), why, help));
    };
    let cost = usize::from(member.healthy.is_ok());
    let after = Projection { healthy: live.healthy() - cost, ..live.now() };
    let heals = cost == 0 && (live.is_lost() || live.goes_on_without(member));
    if after.stands() || heals || live.outage_is_unavoidable(name) {
        return Ok(after);
    }
    Err(live.too_few(QUORUM, &doing, after))
}

fn remove(id: u64, live: &Membership) -> Result<Projection, Refusal> {
    let is_learner = live.learners.iter().any(|l| l.id == id);
    let Some(member) = live.voters.iter().find(|v| v.id == id) else {
        return if is_learner { live.commits("removing a learner") } else { Ok(live.now()) };
    };
    let subject = member.title();
    let doing = format!("removing {subject}");
    live.commits(&doing)?;
    if live.voters.len() == 1 {
        let why = "it is the last voter, and its data is all the data there is".to_owned();
        let subject = format!("{subject} cannot be removed from etcd");
        return Err(refusal(
            "last-member",
            &subject,
            why,
            "rsadm reset takes a cluster down, and all its data with it".to_owned(),
        ));
    }
    // One that takes no part costs nobody anything.
    let healthy = match member.healthy.is_ok() || member.votes {
        true => live.healthy() - usize::from(member.healthy.is_ok()),
        false => live.voting(),
    };
    let after = Projection::of(live.voters.len() - 1, healthy);
    if after.stands() { Ok(after) } else { Err(live.too_few(QUORUM, &doing, after)) }
}

fn add_learner(peer_url: &str, live: &Membership) -> Result<Projection, Refusal> {
    let doing = format!("adding {peer_url}");
    let now = live.commits(&doing)?;
    if let Some(learner) = live.learners.first() {
        let why = format!("{} is still a learner, and etcd takes one at a time", learner.title());
        let help = "wait until it is promoted, or remove it: a learner has no vote".to_owned();
        return Err(refusal("one-learner", &format!("{peer_url} cannot be added to etcd"), why, help));
    }
    // etcd 3.6 adds nothing, not even a learner, while it does not reach every voter; 3.7 asks for a quorum of the
    // membership with one more (server/etcdserver/server.go, `mayAddMember`). So dead members are removed first.
    if let Some(sick) = live.voters.iter().find(|v| v.healthy.is_err()) {
        let why = format!("etcd adds no member while a voter is not healthy; {}", live.complaints());
        let help = format!("start etcd on {0} again, or remove {0} first", sick.title());
        return Err(refusal("all-healthy", &format!("{peer_url} cannot be added to etcd"), why, help));
    }
    Ok(now)
}

fn promote(id: u64, live: &Membership) -> Result<Projection, Refusal> {
    if live.voters.iter().any(|v| v.id == id) {
        return Ok(live.now());
    }
    let Some(learner) = live.learners.iter().find(|l| l.id == id) else {
        let why = "etcd has no such member".to_owned();
        let subject = format!("member {id:x} cannot be given a vote");
        return Err(refusal("unknown-member", &subject, why, "add it first".to_owned()));
    };
    let subject = learner.title();
    let doing = format!("giving {subject} a vote");
    live.commits(&doing)?;
    if let Err(wrong) = &learner.healthy {
        let why = format!("it would be a voter that does not vote: {wrong}");
        let subject = format!("{subject} cannot be given a vote");
        return Err(refusal("learner-unhealthy", &subject, why, START_ETCD.to_owned()));
    }
    let worst = Projection::of(live.voters.len() + 1, live.healthy());
    if worst.stands() || live.voters.len() == 1 {
        return Ok(worst);
    }
    let doing = format!("giving {subject} a vote, should it then fail,");
    Err(live.too_few("learner-costs-quorum", &doing, worst))
}

impl Projection {
    /// So many healthy voters of all.
    pub const fn of(voters: usize, healthy: usize) -> Self {
        Self { voters, healthy, quorum: quorum(voters) }
    }

    /// True where the healthy voters are a quorum.
    pub const fn stands(self) -> bool {
        self.healthy >= self.quorum
    }

    /// How many more voters may fail.
    pub const fn can_lose(self) -> usize {
        self.healthy.saturating_sub(self.quorum)
    }
}

/// What is refused where no quorum serves, since a change is a write, which takes one.
pub fn none(subject: &str, why: &str) -> Refusal {
    let help = "rsadm etcd status shows which members are missing; started again, they form a quorum";
    refusal(NO_QUORUM, subject, why.to_owned(), help.to_owned())
}

fn refusal(rule: &'static str, subject: &str, why: String, help: String) -> Refusal {
    Refusal { rule, subject: subject.to_owned(), why, help }
}

#[cfg(test)]
mod tests;
