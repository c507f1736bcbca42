//! One operator at a time: an `flock` on every host of the inventory, held by the host's own shell of this run.
//!
//! The kernel frees it with the shell, so the lock of a dead run blocks nobody, and there is no age to guess by.

use std::time::Duration;

use super::scripts;
use crate::{
    host::{Op, fleet::Fleet},
    inventory::NodeName,
    plan::Refusal,
};

/// What `lock.sh` ends with where somebody else has the lock.
const TAKEN: i32 = 75;

/// Takes the lock of every host.
///
/// # Errors
/// Who holds one, or why one could not be taken.
pub async fn take(fleet: &Fleet, holder: &str) -> Result<(), Refusal> {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|h| h.name().clone()).collect();
    let op = Op::Script(scripts::LOCK, vec![holder.to_owned()], Duration::from_secs(10));
    let answers = fleet.for_each(&names, |host| {
        let op = op.clone();
        async move { host.hold(op).await }
    });
    for (name, answer) in answers.await {
        let (taken, why) = match answer {
            Ok(output) if output.ok() => continue,
            Ok(output) if output.status == TAKEN => (true, output.text().trim().to_owned()),
            Ok(output) => (false, output.stderr.trim().to_owned()),
            Err(e) => (false, e.to_string()),
        };
        return Err(match taken {
            true => Refusal {
                rule: "locked",
                subject: format!("{name} is locked by another run"),
                why: if why.is_empty() { "its holder did not leave a name".into() } else { why },
                help: "wait for it to end; its lock ends with it".into(),
            },
            false => Refusal {
                rule: "locked",
                subject: format!("the lock of {name} could not be taken"),
                why: if why.is_empty() { "it gave no reason".into() } else { why },
                help: "nothing was changed; mend the cause, then run the same command again".into(),
            },
        });
    }
    Ok(())
}

/// Who we are, for others who find the lock taken.
pub fn holder(command: &str) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let since = time::OffsetDateTime::now_utc().format(format).unwrap_or_default();
    format!("rsadm {command} by {user}@{} (pid {}) since {since}", host.trim(), std::process::id())
}
