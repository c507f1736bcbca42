//! The end of a restore: from the moment when all members agree the restored data takes writes, and is never set aside
//! again for the same restore. Hosts remember that twice: in the restore's own folder, by which an interrupted run is
//! told from one that only has to tidy up, and beside it ([`layout::ENDED_RESTORES`](crate::layout::ENDED_RESTORES)), for
//! a host that missed the end and still has the token: how a restore ended decides what becomes of what that host has.

use std::collections::{BTreeMap, BTreeSet};

use super::{PHASE, Restore, RestoreError, revision::moment_in, words};
use crate::inventory::NodeName;

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its data is the cluster's.
    Stays,
    /// It was rolled back: the cluster has the data that it had before.
    Undone,
}

/// How a host is told with this verb.
fn told(verb: &str, token: &str, ending: Ending) -> Vec<String> {
    match ending {
        Ending::Stays => words([verb, token]),
        Ending::Undone => words([verb, token, "undone"]),
    }
}

/// How restores stand, as all hosts together remember it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The one that is under way.
    pub under_way: Option<String>,
    /// True where its data is in place on some host: from then on there are two clusters' data, and no way but on or back.
    pub placed: bool,
    /// The hosts that it has begun on.
    pub hosts: BTreeSet<NodeName>,
    /// Those that are to have members, in the order in which each member is told of the others; none where an rsadm began it that
    /// noted none.
    pub members: Vec<NodeName>,
    /// True where none of them had anything of a cluster before it.
    pub bare: bool,
    /// Those that are over, with the hosts on which something of them is left.
    pub over: BTreeMap<String, Vec<NodeName>>,
    /// Of all that are over, those that were rolled back.
    undone: BTreeSet<String>,
    /// The moment of the newest of which any host knows.
    pub newest: Option<u64>,
}

/// What one host remembers.
#[derive(Default)]
struct Remembered {
    token: Option<String>,
    members: Vec<NodeName>,
    placed: bool,
    bare: bool,
    over: bool,
    ended: Vec<String>,
    undone: Vec<String>,
}

impl Remembered {
    fn of(said: &str) -> Self {
        let mut remembered = Self::default();
        for line in said.lines() {
            match line.split_once(' ') {
                Some(("token", token)) => remembered.token = Some(token.to_owned()),
                Some(("members", hosts)) => {
                    remembered.members = hosts.split(' ').map(NodeName::new).collect();
                }
                Some(("ended", how)) => {
                    let token = how.split(' ').next().unwrap_or_default();
                    remembered.ended.push(token.to_owned());
                    remembered.undone.extend(how.ends_with(" undone").then(|| token.to_owned()));
                }
                _ => {
                    remembered.placed |= line == "placed";
                    remembered.bare |= line == "bare";
                    remembered.over |= line == "over";
                }
            }
        }
        remembered
    }
}

impl Standing {
    /// Of what hosts said. Over for one is over for all.
    fn of(said: &[(NodeName, String)]) -> Self {
        let hosts: Vec<(&NodeName, Remembered)> =
            said.iter().map(|(host, said)| (host, Remembered::of(said))).collect();
        let noted = hosts.iter().flat_map(|(_, r)| &r.ended);
        let marked = hosts.iter().filter(|(_, r)| r.over).filter_map(|(_, r)| r.token.as_ref());
        let over: BTreeSet<&String> = noted.chain(marked).collect();
        let known = hosts.iter().flat_map(|(_, r)| r.ended.iter().chain(&r.token));
        let newest = known.filter_map(|t| moment_in(t)).max();
        let undone = hosts.iter().flat_map(|(_, r)| r.undone.iter().cloned()).collect();
        let mut standing = Self { newest, undone, ..Self::default() };
        for (host, remembered) in &hosts {
            match &remembered.token {
                Some(token) if over.contains(token) => {
                    standing.over.entry(token.clone()).or_default().push((*host).clone());
                }
                Some(token) => {
                    standing.bare = remembered.bare && (standing.bare || standing.under_way.is_none());
                    standing.under_way = standing.under_way.or_else(|| Some(token.clone()));
                    if standing.members.is_empty() {
                        standing.members.clone_from(&remembered.members);
                    }
                    standing.placed |= remembered.placed;
                    standing.hosts.insert((*host).clone());
                }
                None => {}
            }
        }
        standing
    }

    /// The restore of which something was left that is the newest of all: what it brought is what is served since.
    pub fn last_over(&self) -> Option<&str> {
        let stays = |token: &&String| self.ending(token) == Ending::Stays && self.is_last(token);
        self.over.keys().find(stays).map(String::as_str)
    }

    /// False where another one came after it, of whose data no host has a part that missed it.
    fn is_last(&self, token: &str) -> bool {
        moment_in(token) == self.newest
    }

    /// True where something was left, and all that it was left of was rolled back.
    pub fn was_rolled_back(&self) -> bool {
        !self.over.is_empty() && self.over.keys().all(|token| self.undone.contains(token))
    }

    /// How one that is over has ended.
    fn ending(&self, token: &str) -> Ending {
        if self.undone.contains(token) { Ending::Undone } else { Ending::Stays }
    }
}

impl Restore<'_> {
    /// Which restores the hosts remember.
    ///
    /// # Errors
    /// Hosts that did not answer.
    pub async fn standing(&self) -> Result<Standing, RestoreError> {
        let hosts = self.everybody();
        let said = self.ask("look for a restore under way", &hosts, |_| words(["under-way"])).await?;
        Ok(Standing::of(&said))
    }

    /// From here on the data that is in place is the truth.
    pub(super) async fn mark_over(&self, token: &str, ending: Ending) -> Result<(), RestoreError> {
        self.ask("note that it is over", &self.everybody(), |_| told("over", token, ending)).await.map(drop)
    }

    /// Brings back what restores that are over still hold, and forgets them: no data is moved. A host that has missed the
    /// end, with the old data, does not start etcd: it is for `etcd replace`. One that has missed that a restore was rolled back
    /// does so itself; and of what others have restored over since nothing starts.
    ///
    /// # Errors
    /// Hosts on which that did not succeed.
    pub async fn tidy_up(&self, standing: &Standing) -> Result<(), RestoreError> {
        for (token, hosts) in &standing.over {
            let ending = standing.ending(token);
            let verb = if ending == Ending::Undone { "undo" } else { "settle" };
            let said = match standing.is_last(token) {
                true => self.ask("bring back what waits", hosts, |_| words([verb])).await?,
                false => vec![],
            };
            // Not as those that were there at its end: should this break off here, old data would count as what stays.
            self.ask("note that it is over", hosts, |_| told("ended", token, ending)).await?;
            // What another restore has fenced cannot be waited for, nor what has its old data again, and maybe no quorum with it.
            if standing.under_way.is_none() && ending == Ending::Stays {
                self.serve_again(said).await?;
            }
            self.end(hosts).await?;
            let names: Vec<&str> = hosts.iter().map(NodeName::as_str).collect();
            let done = format!("what was left of one that is over, on {}", names.join(", "));
            self.events.stage(PHASE, "tidying up", hosts.iter().cloned()).done(done);
        }
        Ok(())
    }

    /// Forgets the restore; old data stays aside. A host on which that fails has nothing left that anybody needs, and says
    /// of itself that it is over, so that is no failure of the restore.
    ///
    /// # Errors
    /// Where the operator asked to stop.
    pub(super) async fn end(&self, hosts: &[NodeName]) -> Result<(), RestoreError> {
        match self.ask("tidy up", hosts, |_| words(["end"])).await {
            Err(error @ RestoreError::Hosts { .. }) => {
                let help = "the next rsadm etcd restore or recover takes it away; nothing else is left to do";
                self.events.warn(error.to_string(), Some(help.into()));
                Ok(())
            }
            other => {
                for (host, manifest) in other?.into_iter().filter(|(_, manifest)| !manifest.is_empty()) {
                    self.events.warn(
                        format!(
                            "{host} missed the end of that restore: its etcd stays off, and its manifest is {manifest} there"
                        ),
                        Some("rsadm etcd status tells what becomes of its member".into()),
                    );
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(said: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
        let said: Vec<_> = said.iter().map(|(h, s)| (NodeName::new(*h), (*s).to_owned())).collect();
        let standing = Standing::of(&said);
        let over = standing.over.into_iter().map(|(token, hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(NodeName::as_str).collect();
            format!("{token}: {}", hosts.join(" "))
        });
        (standing.under_way, over.collect())
    }

    #[test]
    fn data_in_place_is_that_of_the_restore_under_way() {
        for (said, expected) in [
            (&[("e1", "token a"), ("e2", "")][..], false),
            (&[("e1", "token a"), ("e2", "token a\nplaced")][..], true),
            (&[("e1", "ended a\ntoken b"), ("e2", "token a\nplaced")][..], false),
        ] {
            let said: Vec<_> = said.iter().map(|(h, s)| (NodeName::new(*h), (*s).to_owned())).collect();
            let standing = Standing::of(&said);
            assert_eq!(standing.placed, expected, "{said:?}");
            let begun: Vec<&str> = standing.hosts.iter().map(NodeName::as_str).collect();
            let of_this = said.iter().filter(|(_, s)| {
                standing.under_way.as_ref().is_some_and(|token| s.contains(&format!("token {token}")))
            });
            assert_eq!(begun, of_this.map(|(h, _)| h.as_str()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn how_a_restore_ended_is_known_to_who_missed_it() {
        let of = |said: &[(&str, &str)]| {
            let said: Vec<_> = said.iter().map(|(h, s)| (NodeName::new(*h), (*s).to_owned())).collect();
            Standing::of(&said)
        };
        let placed = "token a-30-x\nmembers e1 e2\nplaced";
        for (ended, ending, last) in [
            ("ended a-30-x", Ending::Stays, Some("a-30-x")),
            ("ended a-30-x undone", Ending::Undone, None),
            ("ended a-30-x\nended a-40-y", Ending::Stays, None),
        ] {
            let standing = of(&[("e1", ended), ("e2", placed)]);
            assert_eq!((standing.ending("a-30-x"), standing.last_over()), (ending, last), "{ended}");
            assert_eq!(standing.is_last("a-30-x"), !ended.contains("40"), "{ended}");
            assert_eq!(standing.was_rolled_back(), ending == Ending::Undone, "{ended}");
            assert!(standing.under_way.is_none() && standing.members.is_empty());
        }
        let members: Vec<String> = of(&[("e2", placed)]).members.iter().map(ToString::to_string).collect();
        assert_eq!(members, ["e1", "e2"]);
    }

    #[test]
    fn hosts_were_bare_where_all_were_that_it_has_begun_on() {
        for (said, bare) in [
            (&[("e1", ""), ("e2", "")][..], false),
            (&[("e1", "token a\nbare"), ("e2", "token a\nbare"), ("e3", "")][..], true),
            (&[("e1", "token a"), ("e2", "token a\nbare")][..], false),
            (&[("e1", "token a\nbare"), ("e2", "token a")][..], false),
        ] {
            let said: Vec<_> = said.iter().map(|(h, s)| (NodeName::new(*h), (*s).to_owned())).collect();
            assert_eq!(Standing::of(&said).bare, bare, "{said:?}");
        }
    }

    #[test]
    fn a_restore_that_is_over_on_one_host_is_over() {
        let under_way = |token: &str| Some(token.to_owned());
        for (said, expected) in [
            (&[("e1", ""), ("e2", "")][..], (None, vec![])),
            (&[("e1", "token a"), ("e2", "")][..], (under_way("a"), vec![])),
            (&[("e1", "token a\nover\nended a"), ("e2", "token a")][..], (None, vec!["a: e1 e2"])),
            // Its peers have forgotten it, all but its name.
            (&[("e1", "ended z\nended a"), ("e2", "token a")][..], (None, vec!["a: e2"])),
            (
                &[("e1", "ended a\ntoken b"), ("e2", "token a"), ("e3", "")][..],
                (under_way("b"), vec!["a: e2"]),
            ),
        ] {
            let expected = (expected.0, expected.1.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(standing(said), expected, "{said:?}");
        }
    }

    #[test]
    fn the_newest_restore_is_known_once_it_is_forgotten() {
        let said = [
            ("e1", "ended a-30-0123456789ab\nended a-40-recovered-from-e1"),
            ("e2", ""),
            ("e3", "token a-20-0123456789ab"),
        ];
        let said: Vec<_> = said.iter().map(|(h, s)| (NodeName::new(*h), (*s).to_owned())).collect();
        assert_eq!(Standing::of(&said).newest, Some(40));
        assert_eq!(Standing::of(&said[1..]).newest, Some(20));
        assert_eq!(Standing::of(&said[1..2]).newest, None);
    }
}
