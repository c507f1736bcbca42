//! Whether a disk has room for a snapshot, before it is written: etcd's own data may lie on the same one, and etcd ends where
//! that is full.

use std::{path::Path, process::Command};

use super::BackupError;
use crate::{event::bytes, layout};

/// What etcdutl writes beside the database that it restores for a try: a file of etcd's log, in full size from the start
/// (etcd, `wal.go`, `SegmentSizeBytes`).
const LOG: u64 = 64 << 20;

/// What etcd may need meanwhile, where it has the same disk: the next files of its log, and what is written to it.
const RESERVE: u64 = 256 << 20;

/// What a snapshot of this size and its trial take; a bundle takes no more, since the trial is over by then.
pub fn with_trial(size: u64) -> u64 {
    size.saturating_mul(2).saturating_add(LOG)
}

/// What the trial of a snapshot takes that is there already.
pub fn of_trial(size: u64) -> u64 {
    size.saturating_add(LOG)
}

/// What tells how much room there is: of the folder, then of etcd's data where there is any.
pub fn question(folder: &str) -> [String; 5] {
    ["df", "-PB1", "--", folder, layout::ETCD_DATA_DIR].map(str::to_owned)
}

/// Whether a snapshot of this size may be restored on a host, by what `restore.sh room` answers: how far a restore of it came
/// there, and the answer to [`question`] of rsadm's own folder. The snapshot and what comes of it lie there; where etcd's
/// folder is a disk of its own, that takes a copy.
///
/// # Errors
/// In words.
pub fn for_restore(answer: &str, size: u64) -> Result<(), String> {
    let (here, answer) = answer.split_once('\n').unwrap_or(("", answer));
    let needed = match here {
        "restored" => return Ok(()),
        "delivered" => of_trial(size),
        _ => with_trial(size),
    };
    suffices(answer, layout::RSADM_DIR, needed)?;
    let disks: Vec<Disk<'_>> = answer.lines().filter_map(Disk::read).collect();
    match &disks[..] {
        [own, etcd] if !own.is(etcd) => etcd.has(layout::ETCD_DATA_DIR, beside_the_log(size), ""),
        _ => Ok(()),
    }
}

/// Whether so many bytes may be written into a folder, by the answer to [`question`]. One that tells nothing forbids nothing.
///
/// # Errors
/// In words.
pub fn suffices(answer: &str, folder: &str, needed: u64) -> Result<(), String> {
    let disks: Vec<Disk<'_>> = answer.lines().filter_map(Disk::read).collect();
    let Some(disk) = disks.first() else { return Ok(()) };
    let shared = disks.get(1).is_some_and(|etcd| disk.is(etcd));
    let needed = needed.saturating_add(if shared { RESERVE } else { 0 });
    disk.has(folder, needed, if shared { ", so that etcd on the same disk never runs out of it" } else { "" })
}

/// What a database of this size takes that etcd writes, with the two files of its log that come next.
pub fn beside_the_log(database: u64) -> u64 {
    database.saturating_add(2 * LOG)
}

/// Whether etcd may write so much beside its database, for what is named, by what `df` tells of its folder.
///
/// # Errors
/// In words.
pub fn beside_etcd(answer: &str, written: u64, what: &str) -> Result<(), String> {
    let disk = answer.lines().find_map(Disk::read);
    disk.map_or(Ok(()), |disk| {
        let why = format!(" for {what} and what is written meanwhile");
        disk.has(layout::ETCD_DATA_DIR, beside_the_log(written), &why)
    })
}

/// The same of a folder of this machine, which need not be there yet.
///
/// # Errors
/// Where there is not enough.
pub fn check(folder: &Path, needed: u64) -> Result<(), BackupError> {
    let there = folder.ancestors().find(|f| f.is_dir()).unwrap_or(Path::new("."));
    let [program, arguments @ ..] = question(&there.display().to_string());
    // Where there is no df, nothing is known.
    let Ok(answer) = Command::new(program).args(arguments).env("LC_ALL", "C").output() else { return Ok(()) };
    let answer = String::from_utf8_lossy(&answer.stdout);
    suffices(&answer, &folder.display().to_string(), needed).map_err(BackupError::NoRoom)
}

/// A line of `df -PB1`.
struct Disk<'a> {
    /// Everything before the numbers.
    name: &'a str,
    size: u64,
    free: u64,
}

impl<'a> Disk<'a> {
    /// The names at both ends may have spaces in them.
    fn read(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers = |w: &[&str]| Some([w[0].parse().ok()?, w[1].parse().ok()?, w[2].parse().ok()?]);
        let (at, [size, _used, free]) =
            words.windows(3).enumerate().find_map(|(i, w)| Some((i, numbers(w)?)))?;
        let name = &line[..line.find(words.get(at)?)?];
        Some(Self { name, size, free })
    }

    fn has(&self, folder: &str, needed: u64, why: &str) -> Result<(), String> {
        let (free, bytes_needed) = (bytes(self.free), bytes(needed));
        match self.free >= needed {
            true => Ok(()),
            false => Err(format!("no room in {folder}: {free} free, and {bytes_needed} needed{why}")),
        }
    }

    /// As far as names and numbers tell: parts of one file system have them in common.
    fn is(&self, other: &Self) -> bool {
        (self.name.trim_end(), self.size) == (other.name.trim_end(), other.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Filesystem     1-blocks       Used  Available Capacity Mounted on\n";
    const MIB: u64 = 1 << 20;

    fn line(name: &str, free: u64) -> String {
        format!("{name} 4000000000 1 {} 1% /srv\n", free * MIB)
    }

    #[test]
    fn a_snapshot_leaves_room_for_etcd_where_that_has_the_same_disk() {
        for (answer, needed, expected) in [
            (line("/dev/sda1", 100), 100, ""),
            (line("/dev/sda1", 100), 101, "no room in /srv: 100 MiB free, and 101 MiB needed"),
            (line("/dev/sda1", 100) + &line("/dev/sdb1", 1), 100, ""),
            (line("host:/a b", 300) + &line("host:/a b", 300), 44, ""),
            (
                line("/dev/sda1", 300) + &line("/dev/sda1", 299),
                45,
                "no room in /srv: 300 MiB free, and 301 MiB needed, so that etcd on the same disk never runs out of it",
            ),
            (String::new(), 100, ""),
        ] {
            let said = suffices(&format!("{HEAD}{answer}"), "/srv", needed * MIB);
            assert_eq!(said.err().unwrap_or_default(), expected, "{answer}");
        }
        assert_eq!(suffices("", "/srv", 1), Ok(()));
    }

    #[test]
    fn a_restore_takes_the_snapshot_and_what_comes_of_it_and_a_copy_on_a_disk_of_etcds_own() {
        let (one, reserve) = ("/dev/sda1", ", so that etcd on the same disk never runs out of it");
        for (here, disks, expected) in [
            ("nothing", line(one, 520) + &line(one, 520), String::new()),
            (
                "nothing",
                line(one, 519) + &line(one, 519),
                format!("no room in /var/lib/rsadm: 519 MiB free, and 520 MiB needed{reserve}"),
            ),
            ("delivered", line(one, 420) + &line(one, 420), String::new()),
            ("restored", line(one, 0) + &line(one, 0), String::new()),
            ("nothing", line(one, 264) + &line("/dev/sdb1", 228), String::new()),
            (
                "nothing",
                line(one, 264) + &line("/dev/sdb1", 227),
                "no room in /var/lib/etcd: 227 MiB free, and 228 MiB needed".to_owned(),
            ),
            ("nothing", line(one, 264), String::new()),
            ("nothing", String::new(), String::new()),
        ] {
            let said = for_restore(&format!("{here}\n{HEAD}{disks}"), 100 * MIB);
            assert_eq!(said.err().unwrap_or_default(), expected, "{here} {disks}");
        }
    }

    /// Two files of its log: the one that is next, and the one after that.
    #[test]
    fn a_copy_of_the_database_leaves_room_for_the_log() {
        let of = |free| HEAD.to_owned() + &line("/dev/sda1", free);
        assert_eq!(beside_etcd(&of(228), 100 * MIB, "a copy"), Ok(()));
        let full = beside_etcd(&of(227), 100 * MIB, "a copy").unwrap_err();
        assert!(full.starts_with("no room in /var/lib/etcd: 227 MiB free, and 228 MiB needed"), "{full}");
        assert_eq!(beside_etcd("", u64::MAX, "a copy"), Ok(()));
    }

    #[test]
    fn a_folder_that_is_still_to_be_made_counts_as_the_one_above_it() {
        let folder = tempfile::tempdir().unwrap().path().join("a/b");
        check(&folder, 1).unwrap();
        let full = check(&folder, u64::MAX).unwrap_err().to_string();
        assert!(full.starts_with(&format!("no room in {}: ", folder.display())), "{full}");
    }
}
