//! What is left of a cluster whose quorum is lost, and which survivor it is made anew from.

mod choice;
mod clusters;
mod lost;
mod survivor;

use std::collections::BTreeMap;

use futures::future::join_all;
use serde::Serialize;

pub(super) use self::choice::Choice;
use self::survivor::{Survivor, apart, mark_copies};
use super::recovery::Ground;
use crate::{
    cli::CliError,
    etcd::{
        EtcdError, MemberStatus,
        status::{EtcdReport, MemberReport, Told, judged, list},
    },
    exec::{
        members::Members,
        restore::survivors::{Far, Measured, entries},
    },
    inventory::{Node, NodeName},
    observe::wal,
    plan::quorum::quorum,
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

impl Ground<'_> {
    /// Looks at every host that answers. Running members say how far they are; copies of the data of the others are
    /// started alone, so that the choice, and the count of those that could be started again, rests on what they have.
    pub(super) async fn diagnose(&self, report: &EtcdReport) -> Result<Diagnosis, CliError> {
        let members = self.session.members();
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
        let member = |host: &NodeName| {
            let url = self.session.cluster.node(host).map(Node::peer_url)?;
            report.members.iter().find(|m| m.peer_urls.contains(&url))
        };
        let asked = running.iter().map(|host| async move {
            let status = async { members.dial(host).await?.status().await.map_err(EtcdError::into_why) };
            (host.clone(), status.await)
        });
        let measured = join_all(asked).await.into_iter().map(|(host, status)| {
            let measured = match status {
                Ok(status) => Measured::Far(far(&status, member(&host))),
                Err(why) => Measured::Unknown(why),
            };
            (host, measured)
        });
        measured.collect()
    }
}

fn far(status: &MemberStatus, member: Option<&MemberReport>) -> Far {
    Far {
        raft_term: status.raft_term,
        raft_index: status.raft_applied_index.max(status.raft_index),
        revision: status.revision,
        hash: member.and_then(|m| m.hash.clone()),
        hashed_at: member.and_then(|m| m.hash_revision.zip(m.hash_compact_revision)),
        undecided: None,
        members: None,
    }
}

impl Diagnosis {
    fn of(mut survivors: Vec<Survivor>, voters: usize) -> Self {
        mark_copies(&mut survivors);
        let mut diagnosis = Self { voters, best: None, survivors };
        if diagnosis.of_several().is_none() {
            // Of equals the first.
            let sound = diagnosis.survivors.iter().rev().filter(|s| s.is_sound());
            diagnosis.best = sound.max_by_key(|s| s.is_so_far()).map(|s| s.host.clone());
        }
        diagnosis
    }

    fn sound(&self) -> impl Iterator<Item = &str> {
        self.survivors.iter().filter(|s| s.is_sound()).map(|s| s.host.as_str())
    }

    /// That those who have their data are a quorum, where they are.
    pub(super) fn may_be_started(&self) -> Option<String> {
        let sound: Vec<&str> = self.sound().collect();
        (sound.len() >= quorum(self.voters) && self.of_several().is_none()).then(|| {
            let have =
                format!("{} of {} members have their data ({})", sound.len(), self.voters, sound.join(", "));
            match self.lost() {
                None => format!("{have}; started again they are a quorum, and nothing is lost"),
                Some(lost) => format!("{have}; {}", lost.text()),
            }
        })
    }

    /// That some hold different data, as far as their hashes compare; and who is alone with it, where the others are a majority.
    fn differ(&self) -> Option<String> {
        let apart = apart(&self.survivors);
        let same = |a: &&Survivor, b: &&Survivor| a.compares(b).then(|| a.hash == b.hash);
        let told = |s: &&&Survivor, as_what| judged(*s, &apart, self.voters, same) == as_what;
        let hosts =
            |as_what| apart.iter().filter(move |s| told(s, as_what)).map(|s| s.host.as_str()).collect();
        let (odd, most): (Vec<&str>, Vec<&str>) = (hosts(Told::Odd), hosts(Told::Same));
        match (apart.is_empty(), odd.is_empty()) {
            (true, _) => None,
            (false, true) => Some(format!(
                "{} hold different data at one revision: etcd starts none of them beside another that differs, and nothing \
                 here tells whose is right",
                list(&apart.iter().map(|s| s.host.as_str()).collect::<Vec<_>>())
            )),
            (false, false) => Some(format!(
                "{} {} other data at one revision than {}, who are more than half of all {} members: etcd starts none of \
                 them beside another that differs",
                list(&odd),
                if odd.len() == 1 { "holds" } else { "hold" },
                list(&most),
                self.voters
            )),
        }
    }

    /// Survivors of which the database alone is whole, and its revision.
    fn by_database(&self) -> impl Iterator<Item = (&Survivor, u64)> {
        self.survivors.iter().filter_map(|s| Some((s, s.database()?)))
    }

    /// What of the log of the chosen one is lost, or may be.
    pub(super) fn drops(&self, choice: &Choice) -> Option<String> {
        let survivor = self.survivors.iter().find(|s| s.host == choice.host.as_str())?;
        let what = match survivor.undecided {
            Some(0) => return None,
            _ if choice.by_database => return None,
            Some(1) => "The last entry of its log is",
            Some(n) => &format!("The last {} of its log are", entries(n)),
            None => "Entries at the end of its log may be",
        };
        let (what, those) = (
            what.replace("its log", &format!("{}'s log", survivor.host)),
            if survivor.undecided == Some(1) { "it" } else { "them" },
        );
        Some(format!(
            "{what} dropped: {} does not know whether a quorum agreed on {those}, and a client may have been told so.",
            survivor.host
        ))
    }

    /// Where members are that could be started.
    fn stopped(&self) -> String {
        let stopped = self.survivors.iter().filter(|s| s.is_sound() && !s.running);
        let hosts: Vec<&str> = stopped.map(|s| s.host.as_str()).collect();
        if hosts.is_empty() { String::new() } else { format!(", on {}", hosts.join(" and ")) }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let shows_clusters = self.shows_clusters();
        let mut rows =
            vec![["SURVIVOR", "ETCD", "TERM", "INDEX", "REVISION", "HASH"].map(String::from).to_vec()];
        rows[0].extend(shows_clusters.then(|| "CLUSTER".to_owned()));
        let number = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        for s in &self.survivors {
            let mut row = vec![
                s.host.clone(),
                if s.running { "runs".into() } else { "stopped".into() },
                number(s.raft_term),
                number(s.raft_index),
                number(s.revision),
                s.hash.clone().unwrap_or_else(|| "–".to_owned()),
            ];
            row.extend(shows_clusters.then(|| s.cluster().unwrap_or("–").to_owned()));
            rows.push(row);
        }
        let mut text = format!(
            "{} of {} members have data on hosts that answer.\n{}",
            self.survivors.len(),
            self.voters,
            table(&rows)
        );
        self.survivors.iter().filter_map(Survivor::note).for_each(|note| text.push_str(&format!("{note}\n")));
        if let Some(several) = self.of_several() {
            text.push_str(&format!("{several}.\n"));
        }
        if let Some(lost) = self.lost() {
            text.push_str(&format!("{}.\n", lost.text()));
        }
        if let Some(differ) = self.differ() {
            text.push_str(&format!("{differ}.\n"));
        }
        if let Some(best) = &self.best {
            let those =
                if self.by_database().next().is_some() { " of those that can be started" } else { "" };
            text.push_str(&format!("{best} is furthest{those}.\n\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests;
