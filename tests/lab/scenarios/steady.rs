//! What holds of every cluster that is as its inventory says: nothing is pending, and another run changes nothing.

use crate::harness::{Check, Footprint, Inventory, Lab, Processes};

/// `plan` has nothing to do, and says so by its exit code.
pub fn nothing_is_pending(lab: &Lab, inventory: &Inventory) -> Check {
    lab.rsadm_on("plan", inventory)?.ok()?;
    Ok(())
}

/// `up` says that nothing was to change, and no file and no process is another one afterwards.
pub fn second_up_changes_nothing(lab: &Lab, inventory: &Inventory) -> Check {
    let hosts = inventory.all_hosts();
    let (files, processes) = (Footprint::of_ours(lab, &hosts)?, Processes::of(lab, &hosts)?);
    let up = lab.rsadm_on("up", inventory)?.ok()?;
    files.is_still(&Footprint::of_ours(lab, &hosts)?)?;
    let new = Processes::of(lab, &hosts)?.new_since(&processes);
    ensure!(new.is_empty(), "started anew: {new:?}");
    up.says("nothing to change")
}

/// `reset` leaves what was there before the first `up`.
pub fn reset_leaves_nothing(lab: &Lab, inventory: &Inventory, bare: &Footprint) -> Check {
    lab.rsadm_on("reset --yes", inventory)?.ok()?;
    bare.is_still(&Footprint::of_what_is_left(lab, &inventory.all_hosts())?)
}
