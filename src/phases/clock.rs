//! This computer's clock beside those of the hosts: certificates begin by the one and hold by the others.

use time::{Duration, OffsetDateTime};

use crate::{
    event::span,
    observe::{Facts, Observed},
    plan::Refusal,
};

/// How far this computer's clock may be ahead of the hosts': its certificates begin five minutes before its own time
/// ([`BACKDATE`](crate::pki::issue::BACKDATE)). A host may be behind the others as well, and one that took some seconds to
/// answer looks that much later than it is: the last minute is for both.
const AHEAD_LIMIT: Duration = Duration::minutes(4);

/// How far this computer's clock may be behind: whether a certificate ends soon is told by it.
const BEHIND_LIMIT: Duration = Duration::days(1);

/// What to do about a clock that is wrong.
pub const REMEDY: &str = "compare `date -u` here and there, set the clock that is wrong, and keep it right with chrony or \
                          systemd-timesyncd";

/// How far a host's clock is ahead of this computer's, and the time that the question took to reach it.
pub fn offset(facts: &Facts) -> Duration {
    let apart = facts.time.saturating_sub(facts.asked_at).clamp(i64::MIN.into(), i64::MAX.into());
    i64::try_from(apart).map_or(Duration::ZERO, Duration::nanoseconds)
}

/// The same of most hosts, as a single one may be wrong by years; `None` where none has told its time. Of two that differ
/// the one that this computer agrees with more.
pub fn median<'a>(facts: impl Iterator<Item = &'a Facts>) -> Option<Duration> {
    let mut offsets: Vec<Duration> = facts.filter(|f| f.time > 0).map(offset).collect();
    offsets.sort();
    let (low, high) = (offsets.len().checked_sub(1)? / 2, offsets.len() / 2);
    offsets.get(low..=high)?.iter().min_by_key(|off| off.abs()).copied()
}

/// What time it is by the clocks of most hosts, when it is `now` by this computer's.
pub fn of_hosts(seen: &Observed, now: OffsetDateTime) -> OffsetDateTime {
    median(seen.hosts.values()).and_then(|off| now.checked_add(off)).unwrap_or(now)
}

/// What is wrong with this computer's clock, by the offset of most hosts from it.
pub fn fault(median: Duration) -> Option<String> {
    let far = span(median.abs().whole_seconds());
    match median {
        m if m < -AHEAD_LIMIT => Some(format!(
            "this computer's clock is {far} ahead of the hosts': certificates would begin in their future"
        )),
        m if m > BEHIND_LIMIT => Some(format!(
            "this computer's clock is {far} behind the hosts': which certificates have ended would be told wrongly"
        )),
        _ => None,
    }
}

/// Whether certificates of this computer's time are good on the hosts: for every plan that issues some, also where preflight
/// is left out.
///
/// # Errors
/// Where this computer's clock is too far from the hosts'.
pub fn may_issue(seen: &Observed) -> Result<(), Refusal> {
    match median(seen.hosts.values()).and_then(fault) {
        None => Ok(()),
        Some(why) => Err(Refusal {
            rule: "clock",
            subject: "no certificates are issued".into(),
            why,
            help: REMEDY.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_hosts_tell_the_time_and_of_two_the_one_that_agrees_with_us() {
        let of = |offsets: &[i64]| {
            let facts: Vec<Facts> = offsets
                .iter()
                .map(|off| Facts {
                    time: (1_000_000 + i128::from(*off)) * 1_000_000_000,
                    asked_at: 1_000_000_000_000_000,
                    ..Facts::default()
                })
                .collect();
            median(facts.iter()).map(Duration::whole_seconds)
        };
        let table: [(&[i64], Option<i64>); 6] = [
            (&[], None),
            (&[7], Some(7)),
            (&[0, 172_800], Some(0)),
            (&[-172_800, 1], Some(1)),
            (&[5, 5, -90_000], Some(5)),
            (&[0, 1, 172_800, 172_800], Some(1)),
        ];
        for (offsets, expected) in table {
            assert_eq!(of(offsets), expected, "{offsets:?}");
        }
    }
}
