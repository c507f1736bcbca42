//! What a run that was killed has left on the host.

use std::{fs, path::Path, time::Duration};

use crate::{
    backup::{file, trial},
    host::this_machine,
};

/// Longer than any snapshot or trial may take, which is half an hour.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Removes what a run that was killed has left. What an operator's command is at in the same folder stays.
pub(super) fn sweep(folder: &Path, all: bool) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    let here = this_machine();
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let modified = entry.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| m.elapsed().ok()).unwrap_or_default();
        if all || is_left_over(&name, &here, age, |pid| Path::new(&format!("/proc/{pid}")).exists()) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// True for what nobody is at any more. Who begins something names it after host and process ([`file::begun`]); a number is used
/// again, so that nothing counts as under way for longer than anything may take. Of processes of other hosts, which share the
/// folder, no more is known.
fn is_left_over(name: &str, here: &str, age: Duration, lives: impl Fn(u32) -> bool) -> bool {
    let begun = [file::INCOMING, trial::SCRATCH].iter().find_map(|prefix| name.strip_prefix(prefix));
    let Some(begun) = begun else { return false };
    let own = begun.rsplit_once('@').filter(|(host, _)| *host == here).map(|(_, rest)| rest);
    let pid = own.and_then(|rest| rest.split(['-', '.']).next()?.parse().ok());
    age > LONGEST || pid.is_some_and(|pid| !lives(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_is_at_is_swept() {
        let minute = Duration::from_secs(60);
        for (name, age, swept) in [
            (".rsadm-incoming-e-1@77", minute, false),
            (".rsadm-incoming-e-1@77.part", minute, false),
            (".rsadm-incoming-e-1@77-Xa3b9c", minute, false),
            (".rsadm-trial-e-1@77-Xa3b9c", minute, false),
            (".rsadm-trial-e-1@77-Xa3b9c", LONGEST + minute, true),
            (".rsadm-incoming-e-1@78", minute, true),
            (".rsadm-incoming-e-1@78.part", minute, true),
            (".rsadm-trial-e-1@78-Xa3b9c", minute, true),
            // Of other hosts, and of who knows whom.
            (".rsadm-incoming-e-2@78-Xa3b9c", minute, false),
            (".rsadm-incoming-e-2@78-Xa3b9c", LONGEST + minute, true),
            (".rsadm-incoming-e-1-2@78-Xa3b9c", minute, false),
            (".rsadm-incoming-78-Xa3b9c", minute, false),
            (".rsadm-incoming-Xa3b9c", minute, false),
            (".rsadm-incoming-Xa3b9c", LONGEST + minute, true),
            ("prod-20261122T140511Z-m2-r48211.db", LONGEST + minute, false),
        ] {
            assert_eq!(is_left_over(name, "e-1", age, |pid| pid == 77), swept, "{name} {age:?}");
        }
    }
}
