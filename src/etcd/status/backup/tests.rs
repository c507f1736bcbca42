//! When scheduled snapshots count as late, gone, damaged or hanging.

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

fn host(name: &str, since: Option<i64>, newest: Option<i64>, failed: Option<i64>) -> HostBackups {
    HostBackups {
        host: name.into(),
        since: since.map(|hours| NOW - hours * HOUR),
        newest: newest.map(|hours| (NOW - hours * HOUR, format!("{name}.db"))),
        by: None,
        damaged: None,
        gone: None,
        runs: None,
        last_run: NOW - failed.or(newest.filter(|hours| *hours > 0)).unwrap_or(1) * HOUR,
        error: failed.map(|_| "disk full".into()),
        unpruned: None,
    }
}

/// What ran so many hours ago, and never since.
fn ran(hours: i64, host: HostBackups) -> HostBackups {
    HostBackups { last_run: NOW - hours * HOUR, ..host }
}

/// What a host took last, so many hours ago, is damaged.
fn damaged(hours: i64) -> HostBackups {
    let damaged = Some((NOW - hours * HOUR, "bad.db".to_owned()));
    HostBackups { damaged, ..host("e1", Some(99), None, None) }
}

/// What a host took last, so many hours ago, is not there any more.
fn gone(hours: i64) -> HostBackups {
    let gone = Some((NOW - hours * HOUR, "/nas/e1.db".to_owned()));
    HostBackups { gone, ..host("e1", Some(99), None, None) }
}

/// A run that began so many minutes ago is not over.
fn running(minutes: i64, host: HostBackups) -> HostBackups {
    HostBackups { runs: Some(minutes * 60), ..host }
}

/// An interval of six hours; hours ago.
#[test]
fn late_is_what_is_older_than_two_intervals() {
    let table = [
        ("fresh", vec![host("e1", Some(99), Some(3), None), host("e2", Some(99), None, None)], None),
        ("just late", vec![host("e1", Some(99), Some(13), None)], Some("13 h old, and one is due every 6 h")),
        (
            "one from the future",
            vec![host("e1", Some(99), Some(-9999), Some(1)), host("e2", Some(99), Some(13), None)],
            Some("13 h old, and one is due every 6 h"),
        ),
        (
            "another took over",
            vec![ran(2, host("e1", Some(99), Some(40), None)), host("e2", Some(99), Some(2), None)],
            None,
        ),
        (
            "another took over from one whose timer is off",
            vec![host("e1", Some(99), Some(13), None), host("e2", Some(99), Some(2), None)],
            Some("has not fired on e1 for two intervals"),
        ),
        (
            "one that never fired",
            vec![ran(999, host("e1", Some(13), None, None)), host("e2", Some(99), Some(2), None)],
            Some("has not fired on e1 for two intervals"),
        ),
        (
            "one that is still new",
            vec![ran(999, host("e1", Some(11), None, None)), host("e2", Some(99), Some(2), None)],
            None,
        ),
        (
            "older ones stay",
            vec![HostBackups { unpruned: Some("locked".into()), ..host("e1", Some(99), Some(2), None) }],
            Some("older ones could not be removed"),
        ),
        (
            "a run is under way where none was for long",
            vec![
                running(50, ran(40, host("e1", Some(99), Some(40), None))),
                host("e2", Some(99), Some(2), None),
            ],
            None,
        ),
        (
            "a run hangs, and another took over",
            vec![
                running(70, ran(40, host("e1", Some(99), Some(40), Some(41)))),
                host("e2", Some(99), Some(2), None),
            ],
            Some(
                "the run of scheduled snapshots on e1 has been under way for 70 min, and one is due every 6 h",
            ),
        ),
        (
            "a run hangs, and nobody took over",
            vec![running(70, host("e1", Some(99), Some(40), None))],
            Some("40 h old, and one is due every 6 h"),
        ),
        ("new schedule", vec![host("e1", Some(1), None, None)], None),
        (
            "never",
            vec![host("e1", Some(99), None, None)],
            Some("no snapshot was ever taken on the present schedule"),
        ),
        (
            "failed since",
            vec![host("e1", Some(99), Some(7), Some(1))],
            Some("the last scheduled snapshot failed"),
        ),
        (
            "failed before",
            vec![host("e1", Some(99), None, Some(9)), host("e2", Some(99), Some(1), None)],
            None,
        ),
        (
            "failed, and another stepped in",
            vec![host("e1", Some(99), Some(20), Some(3)), host("e2", Some(99), Some(2), None)],
            Some("a host fails to take scheduled snapshots, and another stepped in"),
        ),
        ("not there", vec![host("e1", None, None, None)], Some("no host has it yet")),
        ("nobody answers", vec![], None),
        (
            "damaged",
            vec![damaged(2), host("e2", Some(99), Some(8), None)],
            Some("the newest good one is 8 h old"),
        ),
        ("damaged, and no other", vec![damaged(2)], Some("e1:bad.db, was found damaged; there is no other")),
        (
            "gone",
            vec![gone(2), host("e2", Some(99), Some(8), None)],
            Some("e1:/nas/e1.db, is not there any more; the newest one that is there is 8 h old"),
        ),
        ("gone, and no other", vec![gone(2)], Some("is not there any more; no other is known")),
        (
            "gone, and none comes",
            vec![HostBackups { error: Some("disk full".into()), ..gone(2) }],
            Some("no other is known; and the last scheduled snapshot failed"),
        ),
        (
            "gone, and others are late",
            vec![gone(2), host("e2", Some(99), Some(13), None)],
            Some("is 13 h old; and the timer of scheduled snapshots has not fired on e2"),
        ),
        ("gone long ago", vec![gone(9), host("e2", Some(99), Some(1), None)], None),
        ("damaged long ago", vec![damaged(9), host("e2", Some(99), Some(1), None)], None),
    ];
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    for (what, hosts, expected) in table {
        let report = BackupReport::of(&Backups { interval: 6 * 3600, hosts }, now);
        let advice: Vec<String> =
            report.advice("", "rsadm up", &["e1".into()]).into_iter().map(|a| a.text).collect();
        let advice = advice.join("; and ");
        assert_eq!(advice.is_empty(), expected.is_none(), "{what}: {advice:?}");
        assert!(advice.contains(expected.unwrap_or_default()), "{what}: {advice:?}");
    }
}

#[test]
fn a_run_that_hangs_is_told_with_what_ends_it() {
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let minutes = |interval: u64, runs: i64, newest: i64| {
        let e1 = running(runs, ran(99, host("e1", Some(99), None, None)));
        let e2 = HostBackups {
            newest: Some((NOW - newest * 60, "e2.db".into())),
            last_run: NOW - newest * 60,
            ..host("e2", Some(99), None, None)
        };
        let backups = Backups { interval: interval * 60, hosts: vec![e1, e2] };
        BackupReport::of(&backups, now).advice("", "rsadm up", &["e1".into()])
    };
    assert_eq!(minutes(5, 14, 1), [], "a large database takes so long");
    let told = minutes(5, 20, 1);
    assert!(told[0].text.contains("on e1 has been under way for 20 min, and one is due every 5 min"));
    let ends = "systemctl kill -s KILL rsadm-backup.service on e1 ends it";
    assert_eq!((told.len(), told[0].says.as_deref(), &told[0].command), (1, Some(ends), &None));
    let late = minutes(5, 20, 30);
    assert_eq!(late[0], told[0]);
    assert!(late[1].text.contains("30 min old"), "{late:?}");
    assert_eq!(minutes(600, 61, 1).len(), 1, "no snapshot takes an hour");
}
