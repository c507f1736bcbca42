//! The timing that fits what members measured, the timing that they have, and who sets it (etcd.io, "Tuning").

use std::time::Duration;

use super::{
    advice::is_of_others,
    host::{HostState, Process},
    report::EtcdReport,
};
use crate::layout;

/// The heartbeat interval and the election timeout.
pub type Timing = (Duration, Duration);

/// Heartbeats are set in steps of this.
const STEP: Duration = Duration::from_millis(50);
/// etcd's defaults; the first is the least that makes sense between hosts, too.
const DEFAULT: Timing = (Duration::from_millis(100), Duration::from_secs(1));

/// The timing that fits a disk and a network: a heartbeat somewhat longer than what it has to wait for, and ten of
/// them before anybody calls an election.
pub fn advised(slowest: Duration) -> Timing {
    let wanted = slowest.saturating_mul(3) / 2;
    let steps = u32::try_from(wanted.as_nanos().div_ceil(STEP.as_nanos())).unwrap_or(u32::MAX);
    let heartbeat = STEP.saturating_mul(steps).clamp(DEFAULT.0, Duration::from_secs(5));
    (heartbeat, heartbeat * 10)
}

/// The timing that members have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// It.
    pub timing: Timing,
    /// True where somebody else than rsadm built hosts, so that no inventory sets it.
    pub of_others: bool,
}

impl Pace {
    /// By the inventory; on hosts of others by what members were started with, that of the fastest.
    pub fn of(report: &EtcdReport, inventory: Timing) -> Self {
        let of_others = is_of_others(report);
        let started = report.members.iter().filter_map(|m| match &m.host {
            Some(HostState::Seen(process)) if process.running => Some(started_with(process)),
            _ => None,
        });
        let timing = if of_others { started.min().unwrap_or(DEFAULT) } else { inventory };
        Self { timing, of_others }
    }

    /// What has to be done for another timing, as it goes on after what is wrong.
    pub fn change_to(self, (heartbeat, election): Timing) -> String {
        let (heartbeat, election) = (heartbeat.as_millis(), election.as_millis());
        match self.of_others {
            false => format!(
                "set etcd.heartbeat_interval: {heartbeat}ms and etcd.election_timeout: {election}ms in the inventory, then rsadm up"
            ),
            true => format!(
                "set --heartbeat-interval={heartbeat} and --election-timeout={election} in {}, one host after the other",
                layout::ETCD_MANIFEST
            ),
        }
    }
}

fn started_with(process: &Process) -> Timing {
    let flag = |name: &str| process.flags.get(name)?.parse().ok().map(Duration::from_millis);
    (flag("heartbeat-interval").unwrap_or(DEFAULT.0), flag("election-timeout").unwrap_or(DEFAULT.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    #[test]
    fn timing_fits_what_is_slow() {
        for (slowest, heartbeat) in [(1, 100), (66, 100), (67, 150), (100, 150), (160, 250), (60_000, 5_000)]
        {
            let (advised, election) = advised(Duration::from_millis(slowest));
            assert_eq!(advised.as_millis(), heartbeat, "{slowest} ms");
            assert_eq!(election, advised * 10);
        }
    }

    /// The inventory's is 200 ms and 2 s; m2 has flags of its own, or says none.
    #[test]
    fn on_hosts_of_others_members_have_what_they_were_started_with() {
        let flags = [("heartbeat-interval", "300"), ("election-timeout", "3000")];
        for (prepared, flags, pace) in [
            (true, &flags[..], (200, 2000, "set etcd.heartbeat_interval: 250ms and")),
            (false, &flags, (300, 3000, "set --heartbeat-interval=250 and --election-timeout=2500 in /etc/")),
            (false, &[], (100, 1000, "set --heartbeat-interval=250 and")),
        ] {
            let flags = flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let process = Process { prepared, manifest: true, running: true, flags, ..Process::default() };
            let mut scene = Scene::new(3);
            scene.known.hosts.insert("m2".to_owned(), HostState::Seen(process));
            let inventory = (Duration::from_millis(200), Duration::from_secs(2));
            let found = Pace::of(&scene.report(), inventory);
            let (heartbeat, election, change) = pace;
            assert_eq!((found.timing.0.as_millis(), found.timing.1.as_millis()), (heartbeat, election));
            let told = found.change_to((Duration::from_millis(250), Duration::from_millis(2500)));
            assert!(told.starts_with(change), "{told}");
        }
    }
}
