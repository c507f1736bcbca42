//! `etcd.backup`: when, where to, and what stays.

use std::{path::Path as FsPath, time::Duration};

use serde_json::Value;

use crate::layout;

use super::{
    super::{
        problem::{Fault, quote},
        read::{Section, kind, number, of_text, owned},
        settings::{Backup, Retention},
        syntax,
    },
    duration, file_of,
};

/// Below that, snapshots would be what the members are busy with.
const SHORTEST: Duration = Duration::from_secs(60);

pub(super) fn read(section: Section<'_>, home: Option<&FsPath>) -> Option<Backup> {
    let every = "how often, for example 6h";
    let target = "an absolute folder of the etcd hosts, or s3://BUCKET/FOLDER, gs://…, az://…";
    let kept = section.optional("retention", retention);
    let backup = Backup {
        interval: section.required("interval", every, interval).unwrap_or(SHORTEST),
        retention: kept.unwrap_or(Retention::Count(28)),
        target: section.required("target", target, of_text(self::target)).unwrap_or_default(),
        endpoint: section.optional("endpoint", of_text(syntax::url)),
        region: section.optional("region", owned),
        credentials: file_of(
            &section,
            "credentials",
            home,
            "write the bucket's keys into it, a KEY=VALUE line each",
        ),
        recipient: section.optional("recipient", of_text(recipient)),
    };
    judge(&section, &backup);
    section.finish();
    (!backup.target.is_empty()).then_some(backup)
}

/// What does not go together.
fn judge(section: &Section<'_>, backup: &Backup) {
    let is_bucket = backup.target.contains("://");
    let is_s3 = backup.target.starts_with("s3://");
    let report = |key: &'static str, message: &str, help: &str| {
        if let Some(field) = section.field(key) {
            field.parse(|_| Err::<(), _>(Fault::new(message.to_owned(), help.to_owned())));
        }
    };
    if backup.target.is_empty() {
        return;
    }
    if !is_bucket {
        section.findings.warn(
            &section.path.key("target"),
            "a folder of the etcd hosts: every copy is on a machine that it protects",
            "a bucket, a disk of another machine that is mounted there, or a copy that something else takes away",
        );
        report("credentials", "a folder takes no credentials", "leave it out, or give a bucket as target");
    }
    // Not an error: a cluster that has its snapshots there has to be looked after all the same.
    if let Some(folder) = backup.removed_by_reset() {
        section.findings.warn(
            &section.path.key("target"),
            format!(
                "in {folder}, which `rsadm reset` removes with all that is in it: up and reset refuse that"
            ),
            format!("{}, which it leaves, or a folder elsewhere, such as /srv/backups", layout::BACKUP_DIR),
        );
    }
    if backup.recipient.is_none() {
        section.findings.warn(
            &section.path,
            "without recipient: its snapshots hold no keys of the cluster, and restore on no fresh host",
            "recipient: age1…, the public half of an age key; or rsadm etcd snapshot save --with-pki --recipient age1… now and then",
        );
    }
    if !is_s3 {
        report("endpoint", "only s3:// has an endpoint", "leave it out");
        report("region", "only s3:// has a region", "leave it out");
    }
}

fn interval(value: &Value) -> Result<Duration, Fault> {
    match duration(value)? {
        interval if interval < SHORTEST => {
            Err(Fault::new("less than a minute", "at least 1m; 1h to 24h is usual".to_owned()))
        }
        interval => Ok(interval),
    }
}

/// How many, or how long.
fn retention(value: &Value) -> Result<Retention, Fault> {
    const HELP: &str = "how many are kept, such as 28, or for how long, such as 336h or 14d";
    match value {
        Value::Number(_) => number(1..=100_000)(value).map(Retention::Count),
        Value::String(text) => match text.strip_suffix('d').map(str::parse::<u64>) {
            Some(Ok(days)) if (1..=3650).contains(&days) => Ok(Retention::Seconds(days * 86_400)),
            _ => match syntax::duration(text) {
                Ok(age) if age >= SHORTEST => Ok(Retention::Seconds(age.as_secs())),
                _ => Err(Fault::new(format!("{} is no retention", quote(text)), HELP)),
            },
        },
        other => Err(Fault::new(format!("{}, not a retention", kind(other)), HELP)),
    }
}

fn target(text: &str) -> Result<String, Fault> {
    let help = "an absolute folder of the etcd hosts, or s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER";
    let target = text.trim_end_matches('/');
    let fault = || Fault::new(format!("{} is no place for snapshots", quote(text)), help);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match target.split_once("://") {
        Some(("s3" | "gs" | "az", place)) if !place.is_empty() && place.chars().all(is_plain) => {
            Ok(target.to_owned())
        }
        None if target.len() > 1
            && target.starts_with('/')
            && target.chars().all(is_plain)
            && !target.contains("..") =>
        {
            Ok(target.to_owned())
        }
        _ => Err(fault()),
    }
}

/// A key that was mistyped is found by its checksum: later, every scheduled snapshot would fail for it.
fn recipient(text: &str) -> Result<String, Fault> {
    let help = "the public half of an age key, age1…: age-keygen prints it";
    if text.starts_with("AGE-SECRET-KEY-") {
        return Err(Fault::new("a secret key, which must be in no inventory", help));
    }
    match text.parse::<age::x25519::Recipient>() {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(Fault::new(format!("{} is no age recipient ({why})", quote(text)), help)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::inventory::{Backup, Loaded, Problems, Retention, load};

    fn loaded(backup: &str) -> Result<Loaded, Problems> {
        let text = format!(
            "cluster_name: prod\nkubernetes_version: v1.37.2\nssh: {{user: ops}}\nhosts:\n  \
             - {{name: m1, address: 192.0.2.1, roles: [etcd]}}\netcd:\n  backup: {backup}\n"
        );
        load(&text, "inventory.yaml", Some(std::path::Path::new("/home/ops")))
    }

    fn read(backup: &str) -> Result<Option<Backup>, Vec<String>> {
        let told = |p: &crate::inventory::Problem| format!("{}: {}", p.path, p.message);
        loaded(backup).map(|l| l.cluster.etcd.backup).map_err(|p| p.problems.iter().map(told).collect())
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        let backup = read("{interval: 6h, target: /var/lib/rsadm/backups}").unwrap().unwrap();
        assert_eq!(backup.interval, Duration::from_secs(21_600));
        assert_eq!(backup.retention, Retention::Count(28));
        let bucket = read(
            "{interval: 1h, retention: 14d, target: 's3://b/prod/', endpoint: 'http://s3:9000', region: eu, credentials: ~/s3.env}",
        );
        let bucket = bucket.unwrap().unwrap();
        assert_eq!(
            (bucket.target.as_str(), bucket.retention),
            ("s3://b/prod", Retention::Seconds(1_209_600))
        );
        assert_eq!(bucket.credentials.as_deref(), Some(std::path::Path::new("/home/ops/s3.env")));
        assert_eq!(bucket.settings()["aws_allow_http"], "true");
        assert_eq!(read("null").unwrap(), None);
    }

    #[test]
    fn snapshots_where_reset_removes_them_are_warned_of() {
        let table = [
            ("/var/lib/etcd", Some("/var/lib/etcd")),
            ("/var/lib/etcd/backups", Some("/var/lib/etcd")),
            ("/var/lib//etcd/./b", Some("/var/lib/etcd")),
            ("/etc/kubernetes/backups", Some("/etc/kubernetes")),
            ("/var/lib/containerd/b", Some("/var/lib/containerd")),
            ("/var/lib/rsadm", Some("/var/lib/rsadm")),
            ("/var/lib/rsadm/nas", Some("/var/lib/rsadm")),
            ("/var/lib/rsadm/backups-nas", Some("/var/lib/rsadm")),
            ("/var/lib/rsadm/backups", None),
            ("/var/lib/rsadm/backups/nas", None),
            ("/var/lib/etcd-backups", None),
            ("/var/lib", None),
            ("/srv/backups", None),
        ];
        for (target, folder) in table {
            let loaded = loaded(&format!("{{interval: 6h, target: {target}}}")).unwrap();
            assert_eq!(loaded.cluster.etcd.backup.unwrap().removed_by_reset(), folder, "{target}");
            let removed: Vec<&str> = loaded
                .warnings
                .iter()
                .filter(|w| w.path == "etcd.backup.target")
                .filter_map(|w| {
                    w.message.strip_prefix("in ")?.split_once(", which `rsadm reset` removes with all")
                })
                .map(|(folder, _)| folder)
                .collect();
            assert_eq!(removed, Vec::from_iter(folder), "{target}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let table: [(&str, &[&str]); 7] = [
            ("{}", &["etcd.backup.interval: missing", "etcd.backup.target: missing"]),
            (
                "{interval: 5s, target: backups, retention: many}",
                &[
                    "etcd.backup.interval: less than a minute",
                    "etcd.backup.target: \"backups\" is no place for snapshots",
                    "etcd.backup.retention: \"many\" is no retention",
                ],
            ),
            (
                "{interval: 6h, target: /b, credentials: c, region: eu}",
                &[
                    "etcd.backup.credentials: a folder takes no credentials",
                    "etcd.backup.region: only s3:// has a region",
                ],
            ),
            (
                "{interval: 6h, target: 'ftp://b'}",
                &["etcd.backup.target: \"ftp://b\" is no place for snapshots"],
            ),
            (
                "{interval: 6h, target: /b, recipient: AGE-SECRET-KEY-1AAAA}",
                &["etcd.backup.recipient: a secret key, which must be in no inventory"],
            ),
            // A letter of it was mistyped.
            (
                "{interval: 6h, target: /b, recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q}",
                &[
                    "etcd.backup.recipient: \"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q\" is no age \
                   recipient (invalid Bech32 encoding)",
                ],
            ),
            ("{interval: 6h, target: /b, retain: 3}", &["etcd.backup.retain: unknown key"]),
        ];
        for (text, expected) in table {
            let mut problems = read(text).unwrap_err();
            problems.sort();
            let mut expected: Vec<String> = expected.iter().map(|e| (*e).to_owned()).collect();
            expected.sort();
            assert_eq!(problems, expected, "{text}");
        }
    }
}
