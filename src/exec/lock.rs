//! One operator at a time: an `flock` on every host of the inventory, held by the host's own shell of this run.
//!
//! A run is known by a line: words for people, and behind a tab what tells it from every other run, whatever that calls itself.
//!
//! The kernel frees it with the shell, so the lock of a dead run blocks nobody, and there is no age to guess by. A run that was
//! away, because its computer slept or somebody stopped it, takes its lock again only where nobody else had it meanwhile: its
//! plan is of before.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::scripts;
use crate::{
    event::Events,
    host::{Host, HostError, Op, Output, fleet::Fleet, this_machine},
    inventory::NodeName,
    plan::Refusal,
};

/// The rule by which somebody else's lock says no: why is then who has it.
pub const LOCKED: &str = "locked";

/// What `lock.sh` ends with where somebody else has the lock.
const TAKEN: i32 = 75;

/// The same where that is ourselves, by another of the inventory's names.
const OURS: i32 = 76;

/// How long a host may still be at what a run of this computer had begun that is dead by now: it ends with what it does, and its
/// downloads are broken off.
const LAST_STEP: Duration = Duration::from_secs(120);

/// What a run leaves on its hosts for those that are away meanwhile: by whom they have been since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The run's own line, until the next start of the host.
    Own,
    /// None: it leaves nothing there. That somebody was there, those who are away know by what is missing.
    None,
    /// That of before: it changes nothing there.
    Before,
}

/// Takes the lock of every host.
///
/// # Errors
/// Who holds one, or why one could not be taken.
pub async fn take(fleet: &Fleet, holder: &str, mark: Mark, events: &Events) -> Result<(), Refusal> {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|h| h.name().clone()).collect();
    let answers = fleet.for_each(&names, |host| async move { Ok(take_of(&*host, holder, events).await) });
    for (name, answer) in answers.await {
        let (taken, why) = match answer {
            Ok(Ok(output)) if output.ok() => continue,
            Ok(Ok(output)) if output.status == OURS => return Err(one_machine(&name, output.text().trim())),
            Ok(Ok(output)) if output.status == TAKEN => (true, words(&output.text()).to_owned()),
            Ok(Ok(output)) => (false, output.stderr.trim().to_owned()),
            Ok(Err(e)) | Err(e) => (false, e.to_string()),
        };
        return Err(match taken {
            true => Refusal {
                rule: LOCKED,
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
    let (word, line) = match mark {
        Mark::Own => ("name", holder),
        Mark::None => ("none", ""),
        Mark::Before => return Ok(()),
    };
    let leave = |host: Arc<dyn Host>| async move {
        let name = host.name().as_str();
        let kept = |start: &Output| lock(&[line, name, "kept", start.text().trim()]);
        Ok(host.hold(lock(&[holder, name, word]), &kept).await)
    };
    for (name, answer) in fleet.for_each(&names, leave).await {
        match answer {
            Ok(Ok(output)) if output.ok() => {}
            Ok(Ok(output)) => return Err(failed(&name, "kept", output.stderr.trim().to_owned())),
            Ok(Err(e)) | Err(e) => return Err(failed(&name, "kept", e.to_string())),
        }
    }
    Ok(())
}

/// What came in between is the host's, and no other run.
fn failed(name: &NodeName, doing: &str, why: String) -> Refusal {
    Refusal {
        rule: LOCKED,
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
        let output = host.hold(lock(&first), &|_| lock(&[holder, name, "again"])).await?;
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

/// What people read of a holder. An older rsadm wrote nothing else.
fn words(holder: &str) -> &str {
    holder.split('\t').next().unwrap_or_default().trim()
}

/// True for a run of this computer whose process is gone. Of an older rsadm's it is not known: containers and cloned computers share
/// a name.
fn is_dead(holder: &str) -> bool {
    let mut run = holder.trim().split('\t').nth(1).unwrap_or_default().split(' ');
    let pid = |pid: &str| pid.parse::<u32>().ok();
    let (Some(place), Some(pid)) = (run.next(), run.next().and_then(pid)) else { return false };
    place_of_processes().is_some_and(|here| here == place) && !Path::new(&format!("/proc/{pid}")).exists()
}

/// Where a process number means the same process: this start of this computer, and in it this container.
fn place_of_processes() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(format!("{}.{namespace}", boot.trim()))
}

/// Who we are, for others who find the lock taken; never the same twice.
pub fn holder(command: &str) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".into());
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let since = time::OffsetDateTime::now_utc().format(format).unwrap_or_default();
    let pid = std::process::id();
    let place = place_of_processes().unwrap_or_else(|| "-".into());
    let nonce = RandomState::new().hash_one(pid);
    format!(
        "rsadm {command} by {user}@{} (pid {pid}) since {since}\t{place} {pid} {nonce:016x}",
        this_machine()
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::host::testing;

    /// By a clock that stands still except while all wait. What a host itself waits for the lock is in `scripts/tests/lock.rs`.
    #[tokio::test(start_paused = true)]
    async fn only_what_a_dead_run_of_this_computer_holds_is_waited_for() {
        let (alive, dead) = (holder("up"), dead());
        let elsewhere = dead.replace(&place_of_processes().unwrap(), "another.1");
        for (holder, waits) in [
            (alive.as_str(), Duration::ZERO),
            (&elsewhere, Duration::ZERO),
            ("rsadm up by ann@desk (pid 17)", Duration::ZERO),
            (&dead, LAST_STEP),
        ] {
            let held = holder.to_owned();
            let host = |name| {
                let held = held.clone();
                testing::host(name, move |_| testing::says(TAKEN, &held))
            };
            let fleet = Fleet::new(["m1", "m2"].map(host).into(), 2);
            let began = Instant::now();
            let events = Events::none();
            let taken = take(&fleet, "a run", Mark::Own, &events);
            let refusal = timeout(LAST_STEP * 10, taken).await.unwrap().unwrap_err();
            assert_eq!((began.elapsed(), refusal.subject.as_str()), (waits, "m1 is locked by another run"));
            assert_eq!(refusal.why, words(holder));
        }
    }

    /// What a run of this computer left whose process is gone. No process has this number: pid_max is at most 2^22.
    fn dead() -> String {
        let place = place_of_processes().unwrap();
        holder("up").replace(&format!("\t{place} {} ", std::process::id()), &format!("\t{place} 999999999 "))
    }

    #[test]
    fn only_a_process_of_this_computer_is_known_to_be_dead() {
        let (own, dead) = (holder("up"), dead());
        let place = place_of_processes().unwrap();
        assert!(!is_dead(&own) && is_dead(&dead) && is_dead(&format!("{dead}\n")));
        let container = place.replace('.', ".1");
        assert!(!is_dead(&dead.replace(&place, &container)), "the same name and number, elsewhere");
        assert!(!is_dead(words(&dead)), "an older rsadm's");
        for odd in ["", "somebody", "a\t", "a\t-", "a\t- 999999999", "a\tb c"] {
            assert!(!is_dead(odd), "{odd:?}");
        }
    }

    #[test]
    fn two_runs_are_never_the_same() {
        let (one, other) = (holder("up"), holder("up"));
        assert_ne!(one, other);
        assert!(words(&one).starts_with("rsadm up by ") && words(&one).ends_with(" UTC"), "{one}");
        assert_eq!(words("rsadm up by ann@desk (pid 17)\n"), "rsadm up by ann@desk (pid 17)");
    }
}
