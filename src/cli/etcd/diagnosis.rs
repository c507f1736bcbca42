//! What is left of a cluster whose quorum is lost, and which survivor it is made anew from.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde::Serialize;

use super::recovery::Ground;
use crate::{
    cli::CliError,
    etcd::{EtcdError, MemberStatus, status::EtcdReport},
    exec::{
        members::Members,
        restore::survivors::{Far, Measured},
    },
    inventory::{Node, NodeName},
    observe::wal::{self, Writer},
    plan::{Refusal, quorum::quorum},
    ui::text::table,
};

/// What is left of a cluster.
#[derive(Serialize)]
pub(super) struct Diagnosis {
    survivors: Vec<Survivor>,
    /// Members there were, as far as a survivor tells.
    voters: usize,
    best: Option<String>,
}

/// A host with data of etcd.
#[derive(Clone, Default, Serialize)]
struct Survivor {
    host: String,
    running: bool,
    raft_term: Option<u64>,
    raft_index: Option<u64>,
    revision: Option<u64>,
    hash: Option<String>,
    /// The cluster whose data it has, where that made room for the present one.
    old_cluster: Option<String>,
    /// Which member's data it has, by what that says itself.
    #[serde(skip)]
    writer: Option<Writer>,
    /// Another host with the data of the same member, which counts in its place.
    copy_of: Option<String>,
    /// What etcd says of its data, where it ends over it.
    damaged: Option<String>,
    /// Why nothing is known of it.
    unknown: Option<String>,
}

impl Survivor {
    /// True where it has data of this cluster that etcd can start with, as far as is known.
    fn is_sound(&self) -> bool {
        self.old_cluster.is_none() && self.damaged.is_none() && self.copy_of.is_none()
    }

    /// What a quorum has agreed on is one log, of which each knows the start: who knows of a later entry knows all of the
    /// earlier ones, in whatever term (raft, section 5.4). A term alone proves nothing, a vote is enough to have a high one.
    fn is_so_far(&self) -> (Option<u64>, Option<u64>) {
        (self.raft_index, self.revision)
    }

    fn with(mut self, measured: Option<Measured>) -> Self {
        match measured {
            Some(Measured::Far(far)) => {
                (self.raft_term, self.raft_index) = (Some(far.raft_term), Some(far.raft_index));
                (self.revision, self.hash) = (Some(far.revision), far.hash);
            }
            Some(Measured::Damaged(why)) => self.damaged = Some(why),
            Some(Measured::Unknown(why)) => self.unknown = Some(why),
            None => {}
        }
        self
    }

    /// What the table has no column for.
    fn note(&self) -> Option<String> {
        let host = &self.host;
        if let Some(id) = &self.old_cluster {
            return Some(format!(
                "{host} has the data of an old cluster ({id}), which this one took the place of."
            ));
        }
        if let Some(other) = &self.copy_of {
            return Some(format!(
                "{host} has a copy of the data of {other}: etcd on both would be one member, which counts once."
            ));
        }
        if let Some(why) = &self.damaged {
            return Some(format!("{host} cannot be started, its data is damaged: {why}"));
        }
        self.unknown.as_ref().map(|why| format!("How far {host} is could not be measured: {why}"))
    }
}

impl Ground<'_> {
    /// Looks at every host that answers. Running members say how far they are; copies of the data of the others are
    /// started alone, so that the choice, and the count of those that could be started again, rests on what they have.
    pub(super) async fn diagnose(&self, report: &EtcdReport) -> Result<Diagnosis, CliError> {
        let members = self.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        let said = restore.diagnose().await.map_err(|e| self.failed(e))?;
        let (seen, _) = self.session.observe_what_answers().await;
        let has = |said: &str, word: &str| said.lines().any(|line| line == word);
        let survivors: Vec<Survivor> = said
            .into_iter()
            .filter(|(_, said)| has(said, "data"))
            .map(|(host, said)| Survivor {
                running: has(&said, "running"),
                old_cluster: seen.old_cluster_of(&host).map(str::to_owned),
                writer: said.lines().find_map(|line| wal::writer(line.strip_prefix("writer ")?)),
                host: host.to_string(),
                ..Survivor::default()
            })
            .collect();
        let of_this = |running: bool| {
            let wanted = survivors.iter().filter(move |s| s.running == running && s.old_cluster.is_none());
            wanted.map(|s| NodeName::new(s.host.as_str())).collect::<Vec<_>>()
        };
        let (running, mut stopped) = (of_this(true), of_this(false));
        let mut measured = self.asked(&members, &running, report).await;
        // One that was started without a quorum serves nothing, not even of itself.
        let is_silent = |host: &NodeName| matches!(measured.get(host), Some(Measured::Unknown(_)));
        stopped.extend(running.iter().filter(|host| is_silent(host)).cloned());
        if !stopped.is_empty() {
            measured.extend(restore.measure(&stopped).await.map_err(|e| self.failed(e))?);
        }
        // The inventory may be of the survivors alone; what a member that runs knows counts, and what the data of others says.
        let known = running.iter().filter_map(|host| seen.hosts.get(host)?.etcd_members);
        let told = measured.values().filter_map(Measured::members);
        let voters = known.chain(told).max().unwrap_or_default().max(report.quorum.voters);
        let survivors = survivors.into_iter().map(|survivor| {
            let measured = measured.remove(&NodeName::new(survivor.host.as_str()));
            survivor.with(measured)
        });
        Ok(Diagnosis::of(survivors.collect(), voters))
    }

    /// What running members say of themselves. Their names may be others than those of their hosts.
    async fn asked(
        &self,
        members: &dyn Members,
        running: &[NodeName],
        report: &EtcdReport,
    ) -> BTreeMap<NodeName, Measured> {
        let hash = |host: &NodeName| {
            let url = self.session.cluster.node(host).map(Node::peer_url)?;
            report.members.iter().find(|m| m.peer_urls.contains(&url))?.hash.clone()
        };
        let asked = running.iter().map(|host| async move {
            let status = async { members.dial(host).await?.status().await.map_err(EtcdError::into_why) };
            (host.clone(), status.await)
        });
        let measured = join_all(asked).await.into_iter().map(|(host, status)| {
            let measured = match status {
                Ok(status) => Measured::Far(far(&status, hash(&host))),
                Err(why) => Measured::Unknown(why),
            };
            (host, measured)
        });
        measured.collect()
    }
}

fn far(status: &MemberStatus, hash: Option<String>) -> Far {
    Far {
        raft_term: status.raft_term,
        raft_index: status.raft_applied_index.max(status.raft_index),
        revision: status.revision,
        hash,
        members: None,
    }
}

/// Of hosts with the data of one member, as after a folder was copied, the one counts that is furthest, or else runs.
fn mark_copies(survivors: &mut [Survivor]) {
    for n in 0..survivors.len() {
        // Of one that could not be measured nobody knows which of the two is the copy.
        let is_known = |s: &Survivor| s.is_sound() && s.unknown.is_none();
        let Some(writer) = survivors[n].writer.clone().filter(|_| is_known(&survivors[n])) else { continue };
        let same = survivors.iter().filter(|s| is_known(s) && s.writer.as_ref() == Some(&writer));
        let kept = same.rev().max_by_key(|s| (s.is_so_far(), s.running)).map(|s| s.host.clone());
        survivors[n].copy_of = kept.filter(|host| *host != survivors[n].host);
    }
}

impl Diagnosis {
    fn of(mut survivors: Vec<Survivor>, voters: usize) -> Self {
        mark_copies(&mut survivors);
        // Of equals the first.
        let best = survivors.iter().rev().filter(|s| s.is_sound()).max_by_key(|s| s.is_so_far());
        Self { voters, best: best.map(|s| s.host.clone()), survivors }
    }

    /// Whom to begin anew from; a recovery that has `begun` took that survivor for it.
    pub(super) fn choice(&self, inventory: &str, begun: Option<&NodeName>) -> Result<NodeName, Refusal> {
        let no = |why: String, help: String| Refusal {
            rule: "recover",
            subject: "nothing was recovered".into(),
            why,
            help,
        };
        let Some(best) = &self.best else {
            let notes = self.survivors.iter().filter_map(Survivor::note);
            let why = std::iter::once("no host that answers has data of etcd to begin from".to_owned())
                .chain(notes);
            let help = format!("rsadm etcd restore{inventory} SNAPSHOT makes it anew from a snapshot");
            return Err(no(why.collect::<Vec<_>>().join("\n"), help));
        };
        let back = format!(
            "rsadm etcd restore{inventory} --rollback starts the members that the recovery stopped; recover anew should \
             they have no quorum"
        );
        let sound: Vec<&str> =
            self.survivors.iter().filter(|s| s.is_sound()).map(|s| s.host.as_str()).collect();
        if sound.len() >= quorum(self.voters) {
            let why = format!(
                "{} of {} members have their data ({}); started again they are a quorum, and nothing is lost",
                sound.len(),
                self.voters,
                sound.join(", ")
            );
            let help = match begun {
                Some(_) => back,
                None => format!(
                    "rsadm up{inventory} --only etcd starts members that are down, where all hosts answer; without the others, \
                     or where kubeadm built, their kubelets do{}: systemctl enable kubelet && systemctl restart kubelet",
                    self.stopped()
                ),
            };
            return Err(no(why, help));
        }
        let unknown: Vec<&Survivor> =
            self.survivors.iter().filter(|s| s.is_sound() && s.unknown.is_some()).collect();
        if sound.len() > 1 && !unknown.is_empty() {
            let why = unknown.iter().filter_map(|s| s.note()).collect::<Vec<_>>().join("\n");
            let names: Vec<&str> = unknown.iter().map(|s| s.host.as_str()).collect();
            let help = format!(
                "mend that, since it may be further than the others; or take the role etcd of {} out of the inventory, and \
                 what only it knew is lost",
                names.join(", ")
            );
            return Err(no(why, help));
        }
        if let Some(begun) = begun.filter(|host| host.as_str() != best) {
            let measured = |s: &Survivor| s.host == begun.as_str() && s.is_sound() && s.unknown.is_none();
            let why = match self.survivors.iter().any(measured) {
                true => format!("the recovery that has begun is from {begun}, and now {best} is further"),
                false => {
                    format!("the recovery that has begun is from {begun}, of which nothing is known now")
                }
            };
            return Err(no(why, back));
        }
        Ok(NodeName::new(best.as_str()))
    }

    /// Where members are that could be started.
    fn stopped(&self) -> String {
        let stopped = self.survivors.iter().filter(|s| s.is_sound() && !s.running);
        let hosts: Vec<&str> = stopped.map(|s| s.host.as_str()).collect();
        if hosts.is_empty() { String::new() } else { format!(", on {}", hosts.join(" and ")) }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut rows =
            vec![["SURVIVOR", "ETCD", "TERM", "INDEX", "REVISION", "HASH"].map(String::from).to_vec()];
        let number = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        for s in &self.survivors {
            rows.push(vec![
                s.host.clone(),
                if s.running { "runs".into() } else { "stopped".into() },
                number(s.raft_term),
                number(s.raft_index),
                number(s.revision),
                s.hash.clone().unwrap_or_else(|| "–".to_owned()),
            ]);
        }
        let mut text = format!(
            "{} of {} members have data on hosts that answer.\n{}",
            self.survivors.len(),
            self.voters,
            table(&rows)
        );
        self.survivors.iter().filter_map(Survivor::note).for_each(|note| text.push_str(&format!("{note}\n")));
        if let Some(best) = &self.best {
            text.push_str(&format!("{best} is furthest.\n\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(host: &str, far: Option<(u64, u64, u64)>) -> Survivor {
        let measured = far.map(|(raft_term, raft_index, revision)| {
            Measured::Far(Far { raft_term, raft_index, revision, hash: None, members: None })
        });
        Survivor { host: host.into(), ..Survivor::default() }.with(measured)
    }

    fn best(survivors: &[Survivor]) -> Option<String> {
        Diagnosis::of(survivors.to_vec(), 5).best
    }

    #[test]
    fn the_furthest_knows_of_most_that_was_agreed_on_whoever_has_voted_since() {
        let [a, b, c, d] = [(3, 10, 9), (3, 10, 8), (4, 8, 7), (5, 7, 7)].map(Some);
        let all = [survivor("a", a), survivor("b", b), survivor("c", c), survivor("d", d)];
        assert_eq!(best(&all).as_deref(), Some("a"));
        assert_eq!(best(&[all[0].clone(), survivor("e", None)]).as_deref(), Some("a"));
        assert_eq!(best(&[survivor("e", None), survivor("f", None)]).as_deref(), Some("e"));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn damaged_and_old_data_is_neither_chosen_nor_counted() {
        let sound = survivor("e1", Some((2, 5, 5)));
        let damaged = survivor("e2", None).with(Some(Measured::Damaged("walpb: crc mismatch".into())));
        let old = Survivor { old_cluster: Some("ab".into()), ..survivor("e3", Some((9, 900, 900))) };
        let diagnosis = Diagnosis::of(vec![old.clone(), damaged.clone(), sound.clone()], 3);
        assert_eq!(diagnosis.choice("", None).map_err(|r| r.why), Ok(NodeName::new("e1")));
        let text = diagnosis.text();
        for words in ["e3 has the data of an old cluster (ab)", "e2 cannot be started", "e1 is furthest"] {
            assert!(text.contains(words), "{text}");
        }
        let refusal = Diagnosis::of(vec![old, damaged], 3).choice("", None).unwrap_err();
        assert!(refusal.why.contains("walpb: crc mismatch"), "{refusal}");
        let two = Diagnosis::of(vec![sound, survivor("e2", None)], 3).choice("", None).unwrap_err();
        assert!(two.why.starts_with("2 of 3 members have their data (e1, e2)"), "{two}");
    }

    /// A folder that somebody copied to heal a host makes no second member.
    #[test]
    fn a_copy_of_a_members_data_is_not_counted() {
        let of = |host: &str, member: &str, far: u64, running: bool| {
            let writer = Some(Writer { member: member.into(), cluster: "c".into() });
            Survivor { writer, running, ..survivor(host, Some((2, far, far))) }
        };
        let diagnosis = Diagnosis::of(vec![of("e2", "a", 5, false), of("e1", "a", 5, true)], 3);
        assert_eq!(diagnosis.choice("", None).map_err(|r| r.why), Ok(NodeName::new("e1")));
        assert!(diagnosis.text().contains("e2 has a copy of the data of e1"), "{}", diagnosis.text());
        let stopped = Diagnosis::of(vec![of("e1", "a", 5, false), of("e2", "a", 9, false)], 3);
        assert_eq!(stopped.choice("", None).map_err(|r| r.why), Ok(NodeName::new("e2")));
        let two = Diagnosis::of(vec![of("e1", "a", 5, true), of("e2", "b", 9, false)], 3);
        assert!(two.choice("", None).is_err());
        let unknown =
            Survivor { raft_index: None, unknown: Some("no room".into()), ..of("e1", "a", 5, true) };
        assert!(Diagnosis::of(vec![unknown, of("e2", "a", 4, false)], 5).choice("", None).is_err());
    }

    #[test]
    fn nobody_is_chosen_beside_one_who_may_be_further() {
        let (e1, e2) = (survivor("e1", Some((2, 5, 5))), survivor("e2", Some((2, 6, 6))));
        let silent = survivor("e2", None).with(Some(Measured::Unknown("no room".into())));
        let choice = |all: &[&Survivor], begun: Option<&str>| {
            let all: Vec<Survivor> = all.iter().map(|s| (*s).clone()).collect();
            Diagnosis::of(all, 5).choice(" prod.yaml", begun.map(NodeName::new).as_ref())
        };
        let refused = choice(&[&e1, &silent], None).unwrap_err();
        assert_eq!(refused.why, "How far e2 is could not be measured: no room");
        assert_eq!(choice(&[&silent], None), Ok(NodeName::new("e2")), "there is no other");
        // What has begun goes on from whom it began with, or not at all.
        assert_eq!(choice(&[&e1, &e2], Some("e2")), Ok(NodeName::new("e2")));
        let refused = choice(&[&e1, &e2], Some("e1")).unwrap_err();
        assert_eq!(refused.why, "the recovery that has begun is from e1, and now e2 is further");
        assert!(refused.help.starts_with("rsadm etcd restore prod.yaml --rollback "), "{refused}");
    }
}
