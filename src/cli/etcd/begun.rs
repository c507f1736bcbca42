//! For whom a restore was begun: it goes on, and back, with all of them.

use super::recovery::Ground;
use crate::{cli::CliError, exec::restore::over::Standing, inventory::NodeName, plan::Refusal};

impl Ground<'_> {
    /// The hosts that get the new members: those of a restore that has begun, which know each other by now, or all etcd hosts that
    /// answer.
    ///
    /// # Errors
    /// Where one of them is missing: the same restore with fewer or other members would be another cluster.
    pub(super) async fn targets(&self) -> Result<Vec<NodeName>, CliError> {
        let (there, begun) = (self.etcd_hosts(), self.standing().await?.members);
        let missing: Vec<&str> = begun.iter().filter(|h| !there.contains(h)).map(NodeName::as_str).collect();
        if begun.is_empty() {
            return Ok(there);
        }
        if missing.is_empty() {
            return Ok(begun);
        }
        let all: Vec<&str> = begun.iter().map(NodeName::as_str).collect();
        let missing = missing.join(", ");
        Err(Refusal {
            rule: "same-members",
            subject: format!("what has begun does not go on without {missing}"),
            why: format!("it makes one cluster of {}, and may be through there; nothing was changed", all.join(", ")),
            help: format!(
                "make {missing} reachable, with an inventory that has it as an etcd host, and run the same again; or, if it \
                 is gone for good, take it out of the inventory, and rsadm etcd restore{} --rollback puts the old data back",
                self.inventory
            ),
        }
        .into())
    }

    /// Nobody is left who would go on with what is rolled back elsewhere.
    pub(super) fn can_be_rolled_back(&self, standing: &Standing) -> Result<(), CliError> {
        let silent: Vec<&str> = self
            .silent_etcd_hosts()
            .into_iter()
            .filter(|n| standing.members.contains(&n.name))
            .map(|n| n.name.as_str())
            .collect();
        if silent.is_empty() {
            return Ok(());
        }
        let silent = silent.join(", ");
        Err(Refusal {
            rule: "everybody-fenced",
            subject: format!("the restore is not rolled back without {silent}"),
            why: "its new members may run there, and would go on beside those with the old data; nothing was changed".into(),
            help: format!(
                "make {silent} reachable and run the same again; or switch it off for good and take it out of the inventory"
            ),
        }
        .into())
    }
}
