//! What members measured, judged by etcd's own guides: what a disk and a network must do (etcd.io, "Hardware
//! recommendations" and "Tuning").

use std::time::Duration;

use super::{
    advice::{host, note, title, warning},
    commands::Commands,
    host::{HostState, Process},
    report::{Advice, EtcdReport, MemberReport},
    timing::{Pace, advised},
};
use crate::{event::bytes, layout::ETCD_DATA_DIR};

/// etcd's guide: "99th percentile of wal_fsync_duration should be less than 10ms".
const FSYNC: Duration = Duration::from_millis(10);
/// etcd's own alert: four changes of leader in a quarter of an hour (contrib/mixin, `etcdHighNumberOfLeaderChanges`).
const CHANGES: u64 = 4;
const QUARTER_HOUR: u64 = 15 * 60;

/// What is slow. Good to know and no more: members count from their start, so an hour of heavy load is in it for days,
/// and a cluster on slow disks serves. Above the heartbeat members call elections while nobody is away.
pub(super) fn advise(report: &EtcdReport, pace: Pace) -> Vec<Advice> {
    let slow_disks = report.members.iter().filter_map(|m| {
        let p99 = m.metrics.as_ref()?.fsync.p99().filter(|p99| *p99 > FSYNC)?;
        let text = format!(
            "the disk of {} is slow: it takes {} to make a write safe (fsync, 99th percentile; etcd asks for less than {})",
            m.name,
            millis(p99),
            millis(FSYNC)
        );
        Some(judged(text, p99, pace))
    });
    let slow_networks = report.members.iter().filter_map(|m| slow_network(report, m, pace));
    slow_disks.chain(slow_networks).chain(elections(report)).collect()
}

/// By the median: the time for which a member was away is in the percentiles for hours, and a network that is slow is always
/// slow. Of members that are away now nothing is told.
fn slow_network(report: &EtcdReport, member: &MemberReport, pace: Pace) -> Option<Advice> {
    let is_well = |name: &str| report.members.iter().any(|m| m.name == name && m.healthy);
    let trips = member.metrics.as_ref().filter(|_| report.serves && member.healthy)?.round_trips.iter();
    let known =
        trips.filter(|(to, _)| is_well(to)).filter_map(|(to, times)| Some((times.median()?, to.as_str())));
    let (median, to) = known.max().filter(|(median, _)| *median > pace.timing.0)?;
    let text = format!("messages from {} to {to} and back take {} (median)", member.name, millis(median));
    Some(judged(text, median, pace))
}

fn judged(text: String, time: Duration, pace: Pace) -> Advice {
    let (advised, now) = (advised(time), pace.timing.0);
    if time <= now || now.is_zero() || advised.0 <= now {
        return note(text);
    }
    note(format!(
        "{text}, longer than the heartbeat ({}): until that is mended {}",
        millis(now),
        pace.change_to(advised)
    ))
}

fn elections(report: &EtcdReport) -> Option<Advice> {
    let often = |m: &&super::Metrics| {
        m.leader_changes >= CHANGES && m.uptime_seconds < m.leader_changes * QUARTER_HOUR / CHANGES
    };
    let worst = report
        .members
        .iter()
        .filter_map(|m| m.metrics.as_ref())
        .filter(often)
        .max_by_key(|m| m.leader_changes)?;
    let minutes = worst.uptime_seconds.div_ceil(60);
    Some(note(format!(
        "the leader changed {} times in {minutes} min: unless members were restarted, look at disks and network",
        worst.leader_changes
    )))
}

/// Whole milliseconds from ten on, one decimal below.
pub(super) fn millis(time: Duration) -> String {
    match time.as_micros() {
        0..10_000 => format!("{}.{}ms", time.as_millis(), time.as_micros() % 1000 / 100),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Less than this is soon nothing: etcd makes the next file of its log with all its room at once (etcd, `wal.go`,
/// `SegmentSizeBytes`).
pub const LEAST_ROOM: u64 = 64 << 20;

/// A member whose disk is about to end it.
pub(super) fn room(member: &MemberReport) -> Option<Advice> {
    let Some(HostState::Seen(process)) = &member.host else { return None };
    let left = process.room.filter(|left| process.running && *left < LEAST_ROOM)?;
    let text = format!(
        "the disk of {} has {} left, and etcd ends where it finds no room: make some (df -h {}){}",
        title(member),
        bytes(left),
        ETCD_DATA_DIR,
        aside(process)
    );
    Some(warning(text))
}

/// A member that runs beside its disk: with an empty folder and a member list that is that of its foundation it takes its old place,
/// and its vote, without what it had acknowledged.
pub(super) fn unmounted(member: &MemberReport, commands: Commands<'_>) -> Option<Advice> {
    let Some(HostState::Seen(process)) = &member.host else { return None };
    let folder = process.unmounted.as_ref().filter(|_| process.running)?;
    let (title, host) = (title(member), host(member));
    let text = format!(
        "etcd on {title} runs beside its disk: /etc/fstab of {title} has one for {folder}, and it is not mounted. If its data was there, \
         it began anew in the folder below and votes without what it had acknowledged: writes may be missing. Keep that disk as it is, \
         and do not mount it below a running etcd; once it is known that no other member lacks writes, {} makes {title} a member \
         anew. This goes away with the line in /etc/fstab, or once the disk is mounted while etcd is off",
        commands.replace(&host)
    );
    Some(warning(text))
}

/// Below this, folders of old data are as good as empty.
const LEAST_ASIDE: u64 = 1 << 20;

/// Old data that room can be made of, as it goes on after another text. What a restore that can be rolled back would put back is
/// none.
fn aside(process: &Process) -> String {
    let known = process.aside.iter().filter(|(_, size)| process.restoring.is_none() && **size >= LEAST_ASIDE);
    let folders: Vec<String> = known.map(|(folder, size)| format!("{folder} ({})", bytes(*size))).collect();
    match folders.is_empty() {
        true => String::new(),
        false => format!(
            "; old data of members in {} may go once nobody wants it back, but not {ETCD_DATA_DIR}/member",
            folders.join(" and ")
        ),
    }
}

/// A disk that ended etcd; who made room there is not told so again while the kubelet waits before its next start.
pub(super) fn full(title: &str, process: &Process) -> Advice {
    let Some(left) = process.room.filter(|left| *left >= LEAST_ROOM) else {
        return warning(format!(
            "the disk of {title} is full, which ends its etcd: make room there, {} at the least (df -h {}), and its kubelet \
             starts it again{}",
            bytes(LEAST_ROOM),
            ETCD_DATA_DIR,
            aside(process)
        ));
    };
    warning(format!(
        "the disk of {title} was full, which ended its etcd, and has {} now: its kubelet starts it again, within 5 min at the latest; \
         if it does not, df -i {}",
        bytes(left),
        ETCD_DATA_DIR
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::{Level, Metrics, tests::Scene};

    /// All fsyncs take that long.
    fn fsync(millis: u64) -> Metrics {
        let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
        let text = format!(
            "etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"{seconds}\"}} 0\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"+Inf\"}} 1000\n\
             etcd_server_leader_changes_seen_total 1\n"
        );
        Metrics::read(text.lines(), 0).unwrap()
    }

    fn advice(millis: u64) -> Vec<Advice> {
        let mut scene = Scene::new(3);
        scene.known.timing = (Duration::from_millis(100), Duration::from_secs(1));
        scene.known.metrics.insert("m2".into(), fsync(millis));
        scene.report().advice
    }

    #[test]
    fn row_58_a_slow_disk_is_told_and_one_slower_than_the_heartbeat_with_the_timing_that_fits() {
        assert_eq!(advice(10), []);
        let [slow] = &advice(40)[..] else { panic!("{:?}", advice(40)) };
        assert_eq!(slow.level, Level::Note);
        assert!(slow.text.contains("the disk of m2 is slow: it takes 40ms"), "{slow:?}");
        let [slower] = &advice(160)[..] else { panic!("{:?}", advice(160)) };
        assert_eq!(slower.level, Level::Note, "a slow disk is not a dead member");
        assert!(
            slower.text.contains("etcd.heartbeat_interval: 250ms and etcd.election_timeout: 2500ms"),
            "{slower:?}"
        );
    }

    /// Round trips of m1 to m2: so many of less than 0.1 ms, and the others of up to 3 s.
    fn network(fast: u64, slow: u64, silent: usize) -> Vec<String> {
        let mut scene = Scene::new(3);
        scene.known.timing = (Duration::from_millis(100), Duration::from_secs(1));
        let (name, all) = ("etcd_network_peer_round_trip_time_seconds_bucket", fast + slow);
        let text = format!(
            "{name}{{To=\"a102\",le=\"0.0001\"}} {fast}\n{name}{{To=\"a102\",le=\"3\"}} {all}\n\
             {name}{{To=\"a102\",le=\"+Inf\"}} {all}\netcd_server_leader_changes_seen_total 1\n"
        );
        scene.known.metrics.insert("m1".into(), Metrics::read(text.lines(), 0).unwrap());
        if silent > 0 {
            scene = scene.silence(silent, "connection refused");
        }
        scene.report().advice.into_iter().map(|a| a.text).filter(|t| t.starts_with("messages from")).collect()
    }

    /// The time for which a member was away is no property of the network.
    #[test]
    fn a_network_is_slow_where_most_messages_are() {
        assert_eq!(network(900, 100, 0), [""; 0], "a member was away for a while");
        assert_eq!(network(100, 900, 2), [""; 0], "it is away now");
        let slow = network(100, 900, 0);
        assert!(slow[0].starts_with("messages from m1 to m2 and back take 1"), "{slow:?}");
        assert!(slow[0].contains("etcd.heartbeat_interval: "), "{slow:?}");
    }

    #[test]
    fn many_elections_in_a_short_time_are_told() {
        let of = |changes: u64, uptime: u64| {
            let mut scene = Scene::new(3);
            let metrics = Metrics { leader_changes: changes, uptime_seconds: uptime, ..Metrics::default() };
            scene.known.metrics.insert("m1".into(), metrics);
            !scene.report().advice.is_empty()
        };
        assert_eq!([of(4, 600), of(4, 1000), of(3, 60), of(40, 8_000)], [true, false, false, true]);
    }
}
