//! One operator at a time: an `flock` on every host of the inventory, held by the host's own shell of this run.
//!
//! The kernel frees it with the shell, so the lock of a dead run blocks nobody, and there is no age to guess by. A run that was
//! away, because its computer slept or somebody stopped it, takes its lock again only where nobody else had it meanwhile: its
//! plan is of before.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::scripts;
use crate::{
    event::Events,
    host::{Host, HostError, Op, Output, fleet::Fleet, this_machine},
    inventory::NodeName,
    plan::Refusal,
};

/// What `lock.sh` ends with where somebody else has the lock.
const TAKEN: i32 = 75;

/// The same where that is ourselves, by another of the inventory's names.
const OURS: i32 = 76;

/// How long a host may still be at what a run of this computer had begun that is dead by now: it ends with what it does, and its
/// downloads are broken off.
const LAST_STEP: Duration = Duration::from_secs(120);

/// Takes the lock of every host.
///
/// # Errors
/// Who holds one, or why one could not be taken.
pub async fn take(fleet: &Fleet, holder: &str, events: &Events) -> Result<(), Refusal> {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|h| h.name().clone()).collect();
    let answers = fleet.for_each(&names, |host| async move { Ok(take_of(&*host, holder, events).await) });
    for (name, answer) in answers.await {
        let (taken, why) = match answer {
            Ok(Ok(output)) if output.ok() => continue,
            Ok(Ok(output)) if output.status == OURS => return Err(one_machine(&name, output.text().trim())),
            Ok(Ok(output)) if output.status == TAKEN => (true, output.text().trim().to_owned()),
            Ok(Ok(output)) => (false, output.stderr.trim().to_owned()),
            Ok(Err(e)) | Err(e) => (false, e.to_string()),
        };
        return Err(match taken {
            true => Refusal {
                rule: "locked",
                subject: format!("{name} is locked by another run"),
                why: if why.is_empty() { "its holder did not leave a name".into() } else { why },
                help: "wait for it to end; its lock ends with it, and within two minutes of its computer's last sign of life, or with \
                       the download that the host is at by then"
                    .into(),
            },
            false if why.is_empty() => failed(&name, "taken", "it gave no reason".into()),
            false => failed(&name, "taken", why),
        });
    }
    // Who has been away minds only those that came so far: one that was refused on another host has done nothing.
    let all = |host: Arc<dyn Host>| async move {
        let op = lock(&[holder, host.name().as_str(), "all"]);
        host.run(&[op], false).await.map(drop)
    };
    for (name, answer) in fleet.for_each(&names, all).await {
        answer.map_err(|error| failed(&name, "kept", error.to_string()))?;
    }
    Ok(())
}

/// What came in between is the host's, and no other run.
fn failed(name: &NodeName, doing: &str, why: String) -> Refusal {
    Refusal {
        rule: "locked",
        subject: format!("the lock of {name} could not be {doing}"),
        why,
        help: "nothing was changed; mend the cause, then run the same command again".into(),
    }
}

/// `lock.sh` with these words.
fn lock(words: &[&str]) -> Op {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Op::Script(scripts::LOCK, words, Duration::from_secs(10))
}

/// Two hosts of the inventory that share a lock.
fn one_machine(name: &NodeName, other: &str) -> Refusal {
    let (first, second) = if name.as_str() < other { (name.as_str(), other) } else { (other, name.as_str()) };
    Refusal {
        rule: "one-machine",
        subject: format!("{first} and {second} are the same machine"),
        why: "both addresses lead to it".into(),
        help:
            "one of the two addresses is wrong: correct it in the inventory, then run the same command again"
                .into(),
    }
}

/// The lock of one host. A run that was killed here does not hold it for long, and is waited for.
async fn take_of(host: &dyn Host, holder: &str, events: &Events) -> Result<Output, HostError> {
    let until = Instant::now() + LAST_STEP;
    let mut dead = None;
    loop {
        let name = host.name().as_str();
        let first: Vec<&str> = [holder, name].into_iter().chain(dead.as_deref()).collect();
        let output = host.hold(lock(&first), lock(&[holder, name, "again"])).await?;
        if output.status != TAKEN || !is_dead(&output.text()) || Instant::now() >= until {
            return Ok(output);
        }
        if dead.replace(output.text().trim().to_owned()).is_none() {
            events.warn(
                format!("{} still does what a run began that was killed: waiting for it", host.name()),
                None,
            );
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// True for a run of this computer whose process is gone.
fn is_dead(holder: &str) -> bool {
    let here = format!("@{} (pid ", this_machine());
    let pid = holder.split_once(&here).and_then(|(_, rest)| rest.split(')').next()?.parse::<u32>().ok());
    pid.is_some_and(|pid| {
        std::path::Path::new("/proc/self").exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
}

/// Who we are, for others who find the lock taken.
pub fn holder(command: &str) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".into());
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let since = time::OffsetDateTime::now_utc().format(format).unwrap_or_default();
    format!("rsadm {command} by {user}@{} (pid {}) since {since}", this_machine(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_computer_is_known_to_be_dead() {
        let own = holder("up");
        let pid = format!("(pid {})", std::process::id());
        // No process has this number: pid_max is at most 2^22.
        let dead = own.replace(&pid, "(pid 999999999)");
        assert!(!is_dead(&own) && is_dead(&dead));
        assert!(!is_dead(&dead.replace(&format!("@{} ", this_machine()), "@elsewhere ")));
        assert!(!is_dead("") && !is_dead("somebody"));
    }
}
