//! Members of etcd that a reset does not wipe, because the inventory does not have them.

use std::collections::BTreeSet;

use crate::{
    cli::session::Session,
    etcd::status::{EtcdReport, MemberReport},
    exec::{ask, members::SshMembers},
    inventory::{Cluster, Node, NodeName, Role},
    manifests::EtcdStart,
    observe::{Facts, Observed},
    phases::etcd::PROCESS,
    plan::{Plan, Refusal, quorum::Projection},
};

/// The cluster with etcd on the hosts that have it, too: a file that was written to empty one host may give it any role, and what
/// is lost with it is the same.
pub(super) fn as_found(cluster: &Cluster, seen: &Observed) -> Cluster {
    cluster.with_etcd_on(|n| n.is(Role::Etcd) || seen.hosts.get(&n.name).is_some_and(has_etcd))
}

/// Where it does not run its data counts: it may be what others need for their quorum.
fn has_etcd(facts: &Facts) -> bool {
    facts.runs(PROCESS) || facts.etcd_data
}

/// What etcd says of members that the inventory does not have; nothing is asked where no etcd would be wiped. `cluster` is
/// [`as_found`].
pub(super) async fn beside(session: &Session<'_>, cluster: &Cluster, plan: &Plan, seen: &Observed) -> Beside {
    let hosts = plan.hosts();
    if !hosts.iter().any(|host| seen.hosts.get(*host).is_some_and(has_etcd)) {
        return Beside::Nobody;
    }
    let members = SshMembers::new(cluster, &session.fleet);
    let report = ask::report(&members).await;
    Beside::of(cluster, seen, &hosts, &report)
}

/// Who is a member of the same etcd beside the hosts of the inventory.
#[derive(Debug)]
pub(super) enum Beside {
    /// The inventory has every member.
    Nobody,
    /// Somebody.
    Others(Others),
    /// No member gave its list, nor said how many it knows.
    Unknown,
}

impl Beside {
    /// By the member list; where no member gives it, such as with certificates that have expired, by how many members know,
    /// which their metrics tell anybody on their hosts; and where none runs, by those beside whom they were started.
    fn of(cluster: &Cluster, seen: &Observed, wiped: &BTreeSet<&NodeName>, report: &EtcdReport) -> Self {
        if report.view.is_some() {
            return Others::listed(cluster, wiped, report).map_or(Self::Nobody, Self::Others);
        }
        let count = |host: &&NodeName| Some(((*host).clone(), seen.hosts.get(*host)?.etcd_members?));
        match wiped.iter().filter_map(count).max_by_key(|(_, members)| *members) {
            None => Others::started(cluster, seen, wiped),
            Some((host, members)) => {
                Others::counted(cluster, wiped, &host, members).map_or(Self::Nobody, Self::Others)
            }
        }
    }

    /// Why it may not be.
    pub(super) fn refusal(&self, inventory: &str) -> Option<Refusal> {
        match self {
            Self::Others(others) => others.refusal(inventory),
            Self::Nobody | Self::Unknown => None,
        }
    }

    /// What is said of it before anything is lost.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Unknown => Some(
                "no member of etcd said who else is one: those that are not in this inventory go on counting the members \
                 that are removed here"
                    .to_owned(),
            ),
            Self::Others(others) if others.after.voters == 0 => Some(others.told.clone()),
            Self::Others(others) => {
                let then = match others.wiped.is_empty() {
                    true => String::new(),
                    false => format!("; its etcd then has {}", others.outcome()),
                };
                Some(format!(
                    "{}: what stays keeps what it has, and goes on counting the members that are removed here{then}",
                    others.told
                ))
            }
        }
    }
}

/// Members of the same etcd at hosts that the inventory does not have: they outlive the reset of the others, and their
/// member list still counts these.
#[derive(Debug)]
pub(super) struct Others {
    /// Who they are, with their addresses; or how many.
    told: String,
    /// Hosts whose members are wiped.
    wiped: Vec<String>,
    /// All voters before, who go on being counted, and those of them that are well and stay; none where nobody told.
    after: Projection,
    /// True where etcd serves before, or may.
    serves: bool,
}

impl Others {
    /// `None` where the inventory has every member of the list.
    fn listed(cluster: &Cluster, wiped: &BTreeSet<&NodeName>, report: &EtcdReport) -> Option<Self> {
        let node = |m: &MemberReport| cluster.nodes.iter().find(|n| m.peer_urls.contains(&n.peer_url()));
        let listed = || report.members.iter().filter(|m| m.id.is_some());
        let is_wiped = |n: &Node| wiped.contains(&n.name);
        let stays = |m: &&MemberReport| !node(m).is_some_and(is_wiped);
        let name = |m: &MemberReport| format!("{} ({})", m.name, m.peer_urls.join(", "));
        let names: Vec<String> = listed().filter(|m| node(m).is_none()).map(name).collect();
        let are = if names.len() == 1 { "is a member" } else { "are members" };
        (!names.is_empty()).then(|| Self {
            told: format!("{} {are} of the same etcd and not in this inventory", names.join(", ")),
            wiped: listed().filter_map(node).filter(|n| is_wiped(n)).map(|n| n.name.to_string()).collect(),
            after: Projection::of(
                report.quorum.voters,
                listed().filter(stays).filter(|m| m.healthy && !m.is_learner).count(),
            ),
            serves: report.serves,
        })
    }

    /// `None` where the inventory has as many as the member on `host` knows. All are taken for voters, and those that stay
    /// for well.
    fn counted(
        cluster: &Cluster,
        wiped: &BTreeSet<&NodeName>,
        host: &NodeName,
        members: usize,
    ) -> Option<Self> {
        let listed = cluster.with_role(Role::Etcd).count();
        let wiped = cluster.with_role(Role::Etcd).filter(|n| wiped.contains(&n.name));
        let wiped: Vec<String> = wiped.map(|n| n.name.to_string()).collect();
        (members > listed).then(|| Self {
            told: format!(
                "etcd on {host} has {members} members, {listed} of them in this inventory, and none says who the others are"
            ),
            after: Projection::of(members, members.saturating_sub(wiped.len())),
            wiped,
            serves: true,
        })
    }

    /// By the manifests of members that do not run. Who has joined or left since is not in them.
    fn started(cluster: &Cluster, seen: &Observed, wiped: &BTreeSet<&NodeName>) -> Beside {
        let manifest = |host: &&NodeName| seen.hosts.get(*host)?.etcd_manifest.as_deref();
        let starts: Vec<EtcdStart> =
            wiped.iter().filter_map(manifest).filter_map(EtcdStart::of_manifest).collect();
        let is_listed = |url: &str| cluster.nodes.iter().any(|n| n.peer_url() == url);
        let members = || starts.iter().flat_map(|start| &start.members);
        let others: BTreeSet<String> = members()
            .filter(|(_, url)| !is_listed(url))
            .map(|(name, url)| format!("{name} ({url})"))
            .collect();
        match (starts.is_empty(), others.is_empty()) {
            (true, _) => Beside::Unknown,
            (_, true) => Beside::Nobody,
            _ => Beside::Others(Self {
                told: format!(
                    "etcd was started here beside {}, not in this inventory, and no member says who is one now: unless it was \
                     taken out before, as by rsadm up or rsadm etcd remove, the data here may be all that gives them their \
                     quorum back",
                    others.into_iter().collect::<Vec<_>>().join(", ")
                ),
                wiped: vec![],
                after: Projection::of(0, 0),
                serves: false,
            }),
        }
    }

    fn outcome(&self) -> String {
        let Projection { voters, healthy, quorum } = self.after;
        format!("{healthy} of {voters} voters, and {quorum} are needed")
    }

    /// Why it may not be; `None` where a quorum stays, or there was none before.
    fn refusal(&self, inventory: &str) -> Option<Refusal> {
        if !self.serves || self.wiped.is_empty() || self.after.stands() {
            return None;
        }
        let first = self.wiped.first().map(String::as_str).unwrap_or_default();
        Some(Refusal {
            rule: "quorum",
            subject: format!("a reset of {} would leave etcd {}", self.wiped.join(", "), self.outcome()),
            why: format!("{}: what stays could serve nothing any more; nothing was changed", self.told),
            help: format!(
                "to take hosts out of the cluster: rsadm etcd remove{inventory} {first} first, one after the other; to \
                 take all of it down: reset with an inventory that has every host; \
                 rsadm reset{inventory} --accept-quorum-loss does it all the same"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{etcd::status::tests::Scene, manifests::testing, observe::facts::ProcessFact};

    fn outcome_of(beside: &Beside) -> Option<String> {
        match beside {
            Beside::Others(others) => Some(others.outcome()),
            Beside::Nobody | Beside::Unknown => None,
        }
    }

    #[test]
    fn without_a_member_list_the_members_that_run_are_counted() {
        let silent = "certificate expired";
        let scene = Scene::new(3).silence(1, silent).silence(2, silent).silence(3, silent);
        assert_eq!(scene.report().view, None);
        type Case = (&'static [&'static str], [Option<usize>; 3], Option<&'static str>, bool, &'static str);
        let table: [Case; 6] = [
            (&[], [Some(3); 3], None, false, ""),
            (&[], [None; 3], None, false, "no member of etcd said who else is one"),
            (
                &["m1"],
                [None, None, Some(3)],
                Some("1 of 3 voters, and 2 are needed"),
                true,
                "etcd on m3 has 3 members, 2 of them in this inventory, and none says who the others are",
            ),
            (
                &["m1", "m2"],
                [Some(3); 3],
                Some("2 of 3 voters, and 2 are needed"),
                false,
                "has 3 members, 1 of them",
            ),
            (&["m1"], [Some(3), None, None], None, false, "no member of etcd said who else is one"),
            // One that lags behind counts for less.
            (
                &["m1"],
                [None, Some(2), Some(3)],
                Some("1 of 3 voters, and 2 are needed"),
                true,
                "etcd on m3 has 3",
            ),
        ];
        for (lacking, counts, outcome, is_refused, asked) in table {
            let mut cluster = testing::ha();
            cluster.nodes.retain(|n| !lacking.contains(&n.name.as_str()));
            let wiped: BTreeSet<&NodeName> = cluster.nodes.iter().map(|n| &n.name).collect();
            let mut seen = Observed::default();
            for (name, etcd_members) in ["m1", "m2", "m3"].into_iter().zip(counts) {
                seen.hosts.insert(NodeName::new(name), Facts { etcd_members, ..Facts::default() });
            }
            let beside = Beside::of(&cluster, &seen, &wiped, &scene.report());
            assert_eq!(outcome_of(&beside).as_deref(), outcome, "without {lacking:?}, {counts:?}");
            assert_eq!(beside.refusal("").is_some(), is_refused, "without {lacking:?}, {counts:?}");
            let told = beside.warning();
            assert_eq!(told.is_none(), asked.is_empty(), "without {lacking:?}, {counts:?}: {told:?}");
            assert!(told.unwrap_or_default().contains(asked), "without {lacking:?}, {counts:?}");
        }
    }

    /// m3's data is what gives m2 its quorum back, where m1 is gone.
    #[test]
    fn members_that_do_not_run_tell_beside_whom_they_were_started() {
        let silent = "connection refused";
        let report = Scene::new(3).silence(1, silent).silence(2, silent).silence(3, silent).report();
        let flags =
            "--initial-cluster=m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380\n";
        for (lacking, manifest, asked) in [
            (
                &["m1", "m2"][..],
                Some(flags),
                "m1 (https://10.0.0.1:2380), m2 (https://10.0.0.2:2380), not in this inventory",
            ),
            (&[], Some(flags), ""),
            (&["m1", "m2"], None, "no member of etcd said who else is one"),
        ] {
            let mut cluster = testing::ha();
            cluster.nodes.retain(|n| !lacking.contains(&n.name.as_str()));
            let wiped: BTreeSet<&NodeName> = cluster.nodes.iter().map(|n| &n.name).collect();
            let facts =
                Facts { etcd_manifest: manifest.map(Into::into), etcd_data: true, ..Facts::default() };
            let seen = Observed { hosts: [(NodeName::new("m3"), facts)].into(), ..Observed::default() };
            let beside = Beside::of(&cluster, &seen, &wiped, &report);
            assert!(beside.refusal("").is_none());
            let told = beside.warning();
            assert_eq!(told.is_none(), asked.is_empty(), "without {lacking:?}: {told:?}");
            assert!(told.unwrap_or_default().contains(asked), "without {lacking:?}");
        }
    }

    /// m2 is dead, and m3's file was written to empty that host alone.
    #[test]
    fn a_host_is_what_runs_there_whatever_its_file_calls_it() {
        let runs = || vec![ProcessFact { name: PROCESS.into(), revision: None, etcd_servers: vec![] }];
        let silent = "certificate expired";
        let answer = Scene::new(3).silence(2, "connection refused");
        let expired = Scene::new(3).silence(1, silent).silence(2, silent).silence(3, silent);
        for (report, etcd_members, refused, told) in [
            (answer.report(), None, true, "its etcd then has 1 of 3 voters"),
            (expired.report(), Some(3), false, "its etcd then has 2 of 3 voters"),
        ] {
            for roles in [&[Role::Worker][..], &[Role::ControlPlane], &[Role::Worker, Role::Etcd]] {
                let mut cluster = testing::ha();
                cluster.nodes.retain(|n| n.name.as_str() == "m3");
                cluster.nodes[0].roles = roles.to_vec();
                let facts = Facts { etcd_data: true, processes: runs(), etcd_members, ..Facts::default() };
                let seen = Observed { hosts: [(NodeName::new("m3"), facts)].into(), ..Observed::default() };
                let found = as_found(&cluster, &seen);
                assert_eq!(found.with_role(Role::Etcd).count(), 1, "{roles:?}");
                let wiped: BTreeSet<&NodeName> = found.nodes.iter().map(|n| &n.name).collect();
                let beside = Beside::of(&found, &seen, &wiped, &report);
                assert_eq!(beside.refusal("").is_some(), refused, "{roles:?}: {beside:?}");
                assert!(beside.warning().unwrap_or_default().contains(told), "{roles:?}: {beside:?}");
            }
        }
    }

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
            let beside = Beside::of(&cluster, &Observed::default(), &wiped, &scene.report());
            assert_eq!(outcome_of(&beside).as_deref(), outcome, "without {lacking:?}");
            let refusal = beside.refusal(" part.yaml");
            let begins = refusal.as_ref().map(|r| r.subject.starts_with(refused.unwrap_or("nothing")));
            assert_eq!(begins, refused.map(|_| true), "without {lacking:?}: {refusal:?}");
            let told = beside.warning().unwrap_or_default();
            assert_eq!(told.is_empty(), lacking.is_empty(), "{told}");
            for name in lacking {
                assert!(told.contains(&format!("{name} (https://10.0.0.")), "{told}");
            }
        }
    }

    #[test]
    fn the_refusal_says_who_stays_and_the_ways_out() {
        let mut cluster = testing::ha();
        cluster.nodes.retain(|n| n.name.as_str() != "m1");
        let wiped: BTreeSet<&NodeName> = cluster.nodes.iter().map(|n| &n.name).collect();
        let beside = Beside::of(&cluster, &Observed::default(), &wiped, &Scene::new(3).report());
        let refusal = beside.refusal(" part.yaml").unwrap();
        assert_eq!(
            refusal.why,
            "m1 (https://10.0.0.1:2380) is a member of the same etcd and not in this inventory: what stays could serve \
             nothing any more; nothing was changed"
        );
        assert!(refusal.help.contains("rsadm etcd remove part.yaml m2 first"), "{}", refusal.help);
    }
}
