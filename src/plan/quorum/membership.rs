//! etcd's membership as it is now, and its arithmetic.

use super::{GRANT, NO_QUORUM, OVERRIDE, Projection, Refusal, can_be_accepted, quorum, refusal};
use crate::{
    etcd::status::{EtcdReport, HostState, Id, MemberReport, Trouble},
    layout,
};

/// One voting member of the live membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its name; empty while it was added but never started.
    pub name: String,
    /// The inventory's host at its address, where it has one: commands take that.
    pub host: Option<String>,
    /// Its member ID.
    pub id: u64,
    /// Whether it is healthy, else what is wrong with it.
    pub healthy: Result<(), String>,
    /// True where it is not healthy for its data alone: it takes part in each write all the same.
    pub votes: bool,
    /// Who reaches it.
    pub reach: Reach,
    /// The leader that it names, and in which term; `None` where it names nobody or says nothing.
    pub follows: Option<(u64, u64)>,
}

/// Who reaches a voter, by which it is known what would heal it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its host answers, so that it can be started there.
    Host,
    /// Not even its host can be reached.
    Nobody,
    /// It runs and answers, and knows of no leader: other members do not reach it.
    NoPeers,
}

impl Reach {
    fn of(member: &MemberReport) -> Self {
        match (&member.host, &member.error) {
            (Some(HostState::Unreachable { .. }), _) => Self::Nobody,
            (_, Some(Trouble::NoLeader | Trouble::NoReads(_))) => Self::NoPeers,
            _ => Self::Host,
        }
    }
}

/// One learner of the live membership: it has no vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learner {
    /// Its name; empty while it was added but never started.
    pub name: String,
    /// Its member ID.
    pub id: u64,
    /// Where other members dial it.
    pub peer_urls: Vec<String>,
    /// Whether it is healthy, else what is wrong with it.
    pub healthy: Result<(), String>,
}

/// The membership as etcd has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// All voters, the unstarted too.
    pub voters: Vec<Voter>,
    /// All learners.
    pub learners: Vec<Learner>,
    /// True where a member has just served a linearizable read: a quorum stands, whatever we see of the members.
    pub serves: bool,
    /// True where a member runs and its auth keeps from us how it is: what is not known is not lost.
    pub denied: bool,
}

impl From<&EtcdReport> for Membership {
    /// The membership that a report found; empty, which refuses everything, where no member gave a list.
    fn from(report: &EtcdReport) -> Self {
        let health = |m: &MemberReport| m.error.as_ref().map_or(Ok(()), |e| Err(e.to_string()));
        let name = |m: &MemberReport| match m.error {
            Some(Trouble::Unstarted) => String::new(),
            _ => m.name.clone(),
        };
        let is_denied = |m: &MemberReport| m.error.as_ref().is_some_and(Trouble::is_denial);
        // Those that say why they say nothing, and those that are well: fewer than a quorum of them is no quorum, denied or not.
        let count =
            |which: &dyn Fn(&MemberReport) -> bool| report.members.iter().filter(|m| which(m)).count();
        let (denials, well) = (count(&is_denied), count(&|m| m.error.is_none()));
        let denied = denials > 0 && quorum(report.members.len()) <= denials + well;
        let mut membership = Self { serves: report.serves, denied, ..Self::default() };
        for member in &report.members {
            match member.id {
                None => {}
                Some(Id(id)) if member.is_learner => membership.learners.push(Learner {
                    name: name(member),
                    id,
                    peer_urls: member.peer_urls.clone(),
                    healthy: health(member),
                }),
                Some(Id(id)) => {
                    membership.voters.push(Voter {
                        name: name(member),
                        host: member.node.clone(),
                        id,
                        healthy: health(member),
                        votes: matches!(member.error, Some(Trouble::Corrupt | Trouble::Differs)),
                        reach: Reach::of(member),
                        follows: member.follows.map(|Id(id)| id).zip(member.raft_term),
                    });
                }
            }
        }
        membership
    }
}

impl Membership {
    /// The membership for a cluster whose etcd runs on none of its hosts, as the hosts themselves say: no member can
    /// be asked, and there is nothing left to lose. Not for hosts that merely do not answer.
    pub fn stopped<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let voter = |(name, id): (&str, u64)| Voter {
            name: name.to_owned(),
            host: None,
            id,
            healthy: Err("stopped".to_owned()),
            votes: false,
            reach: Reach::Host,
            follows: None,
        };
        Self { voters: names.into_iter().zip(1..).map(voter).collect(), ..Self::default() }
    }

    /// The membership as it is, with nothing done to it.
    pub fn now(&self) -> Projection {
        Projection::of(self.voters.len(), self.healthy())
    }

    pub(super) fn healthy(&self) -> usize {
        self.voters.iter().filter(|v| v.healthy.is_ok()).count()
    }

    /// True where there is no quorum to lose. Fewer healthy voters than that, and yet it serves: then we see too
    /// little (a host that only we cannot reach), and a restart could be the one that costs the quorum. So it could where a
    /// quorum follows one leader and reads only take too long, as over slow disks: writes may get through all the same.
    pub(super) fn is_lost(&self) -> bool {
        !self.serves && !self.now().stands() && !self.is_led() && !self.denied
    }

    /// True where a quorum of the voters names one leader in one term.
    pub fn is_led(&self) -> bool {
        quorum(self.voters.len()) <= self.led().len()
    }

    /// True where others are a quorum behind one leader, and this one is not of them: it costs nothing.
    pub(super) fn goes_on_without(&self, voter: &Voter) -> bool {
        self.is_led() && self.led().iter().all(|led| led.id != voter.id)
    }

    /// The largest number of voters that follow one leader in one term.
    fn led(&self) -> Vec<&Voter> {
        let followers = |key: (u64, u64)| self.voters.iter().filter(move |v| v.follows == Some(key));
        let keys = self.voters.iter().filter_map(|v| v.follows);
        keys.map(|key| followers(key).collect::<Vec<_>>()).max_by_key(Vec::len).unwrap_or_default()
    }

    /// One or two voters need every one of them: no member of such a cluster can ever be spared. The others have to
    /// be healthy, so that the cluster comes back by itself.
    pub(super) fn outage_is_unavoidable(&self, name: &str) -> bool {
        let others_healthy = self.voters.iter().filter(|v| v.name != name).all(|v| v.healthy.is_ok());
        self.voters.len() <= 2 && others_healthy
    }

    /// Those that take part in writes, whatever their data is.
    pub(super) fn voting(&self) -> usize {
        self.voters.iter().filter(|v| v.healthy.is_ok() || v.votes).count()
    }

    /// A change of membership is itself a write, which needs a quorum of the membership there is. Who holds the wrong data writes
    /// with the others, and could else not be taken out where one more is down.
    pub(super) fn commits(&self, doing: &str) -> Result<Projection, Refusal> {
        let now = self.now();
        let commits = Projection::of(self.voters.len(), self.voting()).stands();
        if commits { Ok(now) } else { Err(self.too_few(NO_QUORUM, doing, now)) }
    }

    /// What is refused and what it would come to; who is missing; what brings them back.
    pub(super) fn too_few(&self, rule: &'static str, doing: &str, after: Projection) -> Refusal {
        let Projection { voters, healthy, quorum: needed } = after;
        let tense = if self.now().stands() { "would leave" } else { "takes a quorum, but etcd has" };
        let subject =
            format!("{doing} {tense} {healthy} healthy of {voters} voters, and {needed} are needed");
        let complaints = self.complaints();
        let refusal = match (self.serves, self.is_led()) {
            (false, true) => {
                let why = format!(
                    "etcd answers too slowly to tell: {} of {voters} voters follow one leader, and none served a read in time",
                    self.led().len()
                );
                let help = "look at the load of the hosts and at their disks (rsadm etcd status), then run this again";
                refusal(rule, &subject, why, help.to_owned())
            }
            _ if complaints.is_empty() => refusal(rule, &subject, self.size(), self.way_out()),
            _ => refusal(rule, &subject, complaints, self.way_out()),
        };
        let last = match can_be_accepted(&refusal) {
            true => format!("; the last way out is {OVERRIDE}: etcd may serve no writes meanwhile"),
            false => String::new(),
        };
        Refusal { help: refusal.help + &last, ..refusal }
    }

    /// What heals, the gentlest first.
    fn way_out(&self) -> String {
        if self.denied {
            return GRANT.to_owned() + layout::ETCD_CLIENT_GRANT;
        }
        let Some(sick) = self.voters.iter().find(|v| v.healthy.is_err()) else {
            return "add a member first".to_owned();
        };
        let title = sick.title();
        let host = sick.host.as_deref().unwrap_or(&sick.name);
        let start = match sick.reach {
            Reach::Nobody => format!(
                "make the host of {title} reachable again (is it on?): its etcd then rejoins by itself"
            ),
            Reach::Host => format!("start etcd on {title} again (its container's log tells why it stopped)"),
            // It rejoins by itself, and one that is made anew there is as cut off.
            Reach::NoPeers => {
                return format!(
                    "mend the network between {title} and the other members, port 2380 (rsadm preflight tries every path); \
                     {title} then rejoins by itself"
                );
            }
        };
        match (self.is_lost(), sick.name.as_str()) {
            (true, _) => {
                format!(
                    "{start}; where too few can be started, rsadm etcd recover goes on from the best survivor"
                )
            }
            (false, "") => format!("{start}, or remove it"),
            // Nothing can be put on a host that is gone.
            (false, _) if sick.reach == Reach::Nobody => {
                format!(
                    "{start}; if it is gone for good: rsadm etcd remove {host}, and in the inventory its successor's line \
                     instead of its own"
                )
            }
            (false, _) => format!("{start}, or rsadm etcd replace {host} where rsadm etcd status names that"),
        }
    }

    pub(super) fn complaints(&self) -> String {
        let complaint =
            |v: &Voter| v.healthy.as_ref().err().map(|w| format!("{} is not healthy ({w})", v.title()));
        self.voters.iter().filter_map(complaint).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn size(&self) -> String {
        match self.voters.len() {
            1 => "it is the only voter".to_owned(),
            2 => "both voters are needed".to_owned(),
            voters => format!("etcd has {voters} voters"),
        }
    }
}

impl Voter {
    pub(super) fn title(&self) -> String {
        title(&self.name, self.id)
    }
}

impl Learner {
    pub(super) fn title(&self) -> String {
        title(&self.name, self.id)
    }
}

/// A member in words: its name, or its ID while it never started.
fn title(name: &str, id: u64) -> String {
    if name.is_empty() { format!("member {id:x}") } else { name.to_owned() }
}
