//! Whom a cluster is made anew from, or why nobody is: a question a function.

use super::{Diagnosis, Survivor, survivor::apart};
use crate::{cli::etcd::guards::led, inventory::NodeName, plan::Refusal};

/// Whom to begin anew from.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli::etcd) struct Choice {
    /// The survivor.
    pub(in crate::cli::etcd) host: NodeName,
    /// True where only its database is whole, and its log cannot be replayed.
    pub(in crate::cli::etcd) by_database: bool,
}

/// Where a choice is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// As it has to be typed.
    pub(super) inventory: &'a str,
    /// Whom a recovery that has begun is from.
    pub(super) begun: Option<&'a NodeName>,
    /// Whom somebody has named.
    pub(super) from: Option<&'a NodeName>,
}

impl Asked<'_> {
    /// The way out of a recovery that has begun.
    pub(super) fn back(&self) -> String {
        format!(
            "rsadm etcd restore{} --rollback starts the members that the recovery stopped; recover anew should \
             they have no quorum",
            self.inventory
        )
    }
}

pub(super) fn no(why: String, help: String) -> Refusal {
    Refusal { rule: "recover", subject: "nothing was recovered".into(), why, help }
}

impl Diagnosis {
    /// Whom to begin anew from, unless somebody says `from` whom; a recovery that has `begun` took that survivor for
    /// it.
    ///
    /// # Errors
    /// What stands against it, with the way out.
    pub(in crate::cli::etcd) fn choice(
        &self,
        inventory: &str,
        begun: Option<&NodeName>,
        from: Option<&NodeName>,
    ) -> Result<Choice, Refusal> {
        let asked = Asked { inventory, begun, from };
        if let Some(refusal) = self.one_is_led() {
            return Err(refusal);
        }
        if let Some(refusal) = self.nobody_is_weighed(asked) {
            return Err(refusal);
        }
        let Some(best) = self.best.as_deref().or(from.map(NodeName::as_str)) else {
            return Err(self.nobody_is_sound(asked));
        };
        if let Some(refusal) = self.only_have_to_be_started(asked) {
            return Err(refusal);
        }
        if let Some(from) = from {
            let look = || format!("rsadm etcd recover{inventory} --diagnose shows what each survivor has");
            let help = || if begun.is_some() { asked.back() } else { look() };
            return self.named(from, begun).map_err(|why| no(why, help()));
        }
        let refused = self
            .another_may_be_further()
            .or_else(|| self.another_has_begun(asked, best))
            .or_else(|| self.a_database_is_further(asked, best))
            .or_else(|| self.differs_from_another(asked, best));
        match refused {
            Some(refusal) => Err(refusal),
            None => Ok(Choice { host: NodeName::new(best), by_database: false }),
        }
    }

    /// Its clients get no answer, and a leader is heard all the same: a quorum lives that nobody asked.
    fn one_is_led(&self) -> Option<Refusal> {
        let led = self.survivors.iter().find(|s| s.is_sound() && s.is_led)?;
        Some(led::by(&led.host, "another member"))
    }

    /// No data that somebody could be started with.
    fn nobody_is_sound(&self, asked: Asked<'_>) -> Refusal {
        let inventory = asked.inventory;
        let notes = self.survivors.iter().filter_map(Survivor::note);
        let why =
            std::iter::once("no host that answers has data of etcd to begin from".to_owned()).chain(notes);
        let snapshot = format!("rsadm etcd restore{inventory} SNAPSHOT makes it anew from a snapshot");
        let help = match self.by_database().max_by_key(|(_, revision)| *revision) {
            Some((s, _)) => format!(
                "rsadm etcd recover{inventory} --from {} begins from that database; or {snapshot}",
                s.host
            ),
            None => snapshot,
        };
        no(why.collect::<Vec<_>>().join("\n"), help)
    }

    /// Those who have their data are a quorum. Whoever names one knows why they are not started: etcd may end them,
    /// each beside another.
    fn only_have_to_be_started(&self, asked: Asked<'_>) -> Option<Refusal> {
        let why = self.may_be_started().filter(|_| asked.from.is_none())?;
        let inventory = asked.inventory;
        if let Some(lost) = self.lost() {
            return Some(Refusal { why, ..lost.refusal(asked) });
        }
        let help = match asked.begun {
            Some(_) => asked.back(),
            None => format!(
                "rsadm up{inventory} --only etcd starts members that are down, where all hosts answer; without the \
                 others, or where kubeadm built, their kubelets do{}: systemctl enable kubelet && systemctl restart \
                 kubelet; where etcd stops again since their data is not the same, rsadm etcd status{inventory} tells \
                 beside whom, and the last way out is rsadm etcd recover{inventory} --from HOST, which gives up what \
                 the others have",
                self.stopped()
            ),
        };
        Some(no(why, help))
    }

    /// Of somebody it is not known how far he is.
    fn another_may_be_further(&self) -> Option<Refusal> {
        let unknown: Vec<&Survivor> =
            self.survivors.iter().filter(|s| s.is_sound() && s.unknown.is_some()).collect();
        if self.sound().count() < 2 || unknown.is_empty() {
            return None;
        }
        let why = unknown.iter().filter_map(|s| s.note()).collect::<Vec<_>>().join("\n");
        let names: Vec<&str> = unknown.iter().map(|s| s.host.as_str()).collect();
        let help = format!(
            "mend that, since it may be further than the others; or take the role etcd of {} out of the inventory, and \
             what only it knew is lost",
            names.join(", ")
        );
        Some(no(why, help))
    }

    /// A recovery from somebody else has begun.
    fn another_has_begun(&self, asked: Asked<'_>, best: &str) -> Option<Refusal> {
        let begun = asked.begun.filter(|host| host.as_str() != best)?;
        let measured = |s: &Survivor| s.host == begun.as_str() && s.is_sound() && s.unknown.is_none();
        let why = match self.survivors.iter().any(measured) {
            true => format!("the recovery that has begun is from {begun}, and {best} is further"),
            false => format!("the recovery that has begun is from {begun}, which could not be started now"),
        };
        Some(no(why, self.goes_on(asked, begun)))
    }

    /// What is in a database was agreed on, whatever has become of its log.
    fn a_database_is_further(&self, asked: Asked<'_>, best: &str) -> Option<Refusal> {
        let reached = self.survivors.iter().find(|s| s.host == best).and_then(|s| s.revision);
        let further = self.by_database().filter(|(_, revision)| Some(*revision) > reached);
        let (s, revision) = further.max_by_key(|(_, revision)| *revision)?;
        let reached = reached.map_or_else(|| "nobody knows which".to_owned(), |r| r.to_string());
        let why = format!("{}\n{best} is less far: revision {reached}", s.note().unwrap_or_default());
        let help = match asked.begun {
            Some(begun) => self.goes_on(asked, begun),
            None => format!(
                "rsadm etcd recover{} --from {} begins from that database of revision {revision}; --from {best} gives \
                 up what only that has",
                asked.inventory, s.host
            ),
        };
        Some(no(why, help))
    }

    /// The best is one of those that hold different data.
    fn differs_from_another(&self, asked: Asked<'_>, best: &str) -> Option<Refusal> {
        if asked.begun.is_some() || !apart(&self.survivors).iter().any(|s| s.host == best) {
            return None;
        }
        let help = format!(
            "rsadm etcd recover{} --from HOST begins from the one that you know to be right",
            asked.inventory
        );
        Some(no(self.differ()?, help))
    }

    /// How a recovery from somebody goes on. Somebody may have named it, which hosts do not remember.
    pub(super) fn goes_on(&self, asked: Asked<'_>, begun: &NodeName) -> String {
        let back = asked.back();
        match self.named(begun, None) {
            Ok(_) => {
                format!("rsadm etcd recover{} --from {begun} goes on with it; or {back}", asked.inventory)
            }
            Err(_) => back,
        }
    }

    /// The survivor that somebody has named.
    fn named(&self, from: &NodeName, begun: Option<&NodeName>) -> Result<Choice, String> {
        if let Some(begun) = begun.filter(|begun| *begun != from) {
            return Err(format!("the recovery that has begun is from {begun}, not from {from}"));
        }
        let Some(survivor) = self.survivors.iter().find(|s| s.host == from.as_str()) else {
            return Err(format!("no data of etcd was found on {from}"));
        };
        let by_database = survivor.database().is_some();
        if by_database || survivor.is_sound() {
            return Ok(Choice { host: from.clone(), by_database });
        }
        Err(survivor.note().unwrap_or_default())
    }
}
