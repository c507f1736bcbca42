//! Arguments that a version of etcd does not know any more, and what takes their place: in manifests that kubeadm wrote, which
//! stay as they are but for these and the image.
//!
//! From etcd's own sources: `server/embed/config.go` of 3.6 names the successor of each experimental flag, 3.7 has dropped all of
//! them (`CHANGELOG-3.7.md`); 3.6 dropped what stood for the v2 store (etcd.io, "Upgrade etcd from v3.5 to v3.6").

/// What takes an argument's place.
#[derive(Clone, Copy)]
enum Successor {
    /// The same with this name.
    Named(&'static str),
    /// A feature gate.
    Gate(&'static str),
    /// Nothing is known.
    Unknown,
}

use Successor::{Gate, Named, Unknown};

/// By the minor version of etcd 3 that dropped them.
const DROPPED: &[(u16, &str, Successor)] = &[
    (6, "enable-v2", Unknown),
    (6, "experimental-enable-v2v3", Unknown),
    (6, "experimental-max-learners", Named("max-learners")),
    (6, "proxy", Unknown),
    (6, "proxy-dial-timeout", Unknown),
    (6, "proxy-failure-wait", Unknown),
    (6, "proxy-read-timeout", Unknown),
    (6, "proxy-refresh-interval", Unknown),
    (6, "proxy-write-timeout", Unknown),
    (7, "discovery", Unknown),
    (7, "discovery-proxy", Unknown),
    (7, "experimental-bootstrap-defrag-threshold-megabytes", Named("bootstrap-defrag-threshold-megabytes")),
    (7, "experimental-compact-hash-check-enabled", Gate("CompactHashCheck")),
    (7, "experimental-compact-hash-check-time", Named("compact-hash-check-time")),
    (7, "experimental-compaction-batch-limit", Named("compaction-batch-limit")),
    (7, "experimental-compaction-sleep-interval", Named("compaction-sleep-interval")),
    (7, "experimental-corrupt-check-time", Named("corrupt-check-time")),
    (7, "experimental-distributed-tracing-address", Named("distributed-tracing-address")),
    (7, "experimental-distributed-tracing-instance-id", Named("distributed-tracing-instance-id")),
    (7, "experimental-distributed-tracing-sampling-rate", Named("distributed-tracing-sampling-rate")),
    (7, "experimental-distributed-tracing-service-name", Named("distributed-tracing-service-name")),
    (7, "experimental-downgrade-check-time", Named("downgrade-check-time")),
    (7, "experimental-enable-distributed-tracing", Named("enable-distributed-tracing")),
    (7, "experimental-enable-lease-checkpoint", Gate("LeaseCheckpoint")),
    (7, "experimental-enable-lease-checkpoint-persist", Gate("LeaseCheckpointPersist")),
    (7, "experimental-initial-corrupt-check", Gate("InitialCorruptCheck")),
    (7, "experimental-memory-mlock", Named("memory-mlock")),
    (7, "experimental-peer-skip-client-san-verification", Named("peer-skip-client-san-verification")),
    (7, "experimental-snapshot-catchup-entries", Named("snapshot-catchup-entries")),
    (7, "experimental-stop-grpc-service-on-defrag", Gate("StopGRPCServiceOnDefrag")),
    (7, "experimental-txn-mode-write-with-shared-buffer", Gate("TxnModeWriteWithSharedBuffer")),
    (7, "experimental-warning-apply-duration", Named("warning-apply-duration")),
    (7, "experimental-warning-unary-request-duration", Named("warning-unary-request-duration")),
    (7, "experimental-watch-progress-notify-interval", Named("watch-progress-notify-interval")),
];

/// Where feature gates stand.
const GATES: &str = "feature-gates";

/// An argument as a manifest has it, and what stands there instead; nothing where that has its place elsewhere.
pub(in crate::phases::etcd) type Replaced = (String, Option<String>);

/// What of these arguments etcd 3 of that minor version does not know, with what takes its place.
///
/// # Errors
/// Names the first that has no known successor.
pub(in crate::phases::etcd) fn replaced<'a>(
    arguments: impl Iterator<Item = &'a str> + Clone,
    minor: u16,
) -> Result<Vec<Replaced>, &'a str> {
    let had = arguments.clone().find_map(|argument| value_of(argument, GATES));
    let (mut replaced, mut gates): (Vec<Replaced>, Vec<String>) = (vec![], vec![]);
    for argument in arguments {
        let (name, value) = split(argument);
        let is_it = |(dropped, old, _): &&(u16, &str, Successor)| *dropped <= minor && *old == name;
        let Some((_, _, successor)) = DROPPED.iter().find(is_it) else { continue };
        let value = value.unwrap_or("true");
        replaced.push((
            argument.to_owned(),
            match successor {
                Unknown => return Err(argument),
                Named(name) => Some(format!("--{name}={value}")),
                Gate(gate) => {
                    // One that the manifest sets by its name holds: etcd 3.6 takes no member that has both.
                    if !had.unwrap_or_default().split(',').any(|set| set.starts_with(&format!("{gate}="))) {
                        gates.push(format!("{gate}={value}"));
                    }
                    None
                }
            },
        ));
    }
    if !gates.is_empty() {
        let all = had.filter(|had| !had.is_empty()).map(str::to_owned).into_iter().chain(gates);
        let all = Some(format!("--{GATES}={}", all.collect::<Vec<_>>().join(",")));
        match (had, replaced.iter_mut().find(|(_, successor)| successor.is_none())) {
            (Some(had), _) => replaced.push((format!("--{GATES}={had}"), all)),
            (None, Some((_, place))) => *place = all,
            (None, None) => {}
        }
    }
    Ok(replaced)
}

/// The value of an argument, where it has that name.
pub(super) fn value_of<'a>(argument: &'a str, name: &str) -> Option<&'a str> {
    let (named, value) = split(argument);
    value.filter(|_| named == name)
}

fn split(argument: &str) -> (&str, Option<&str>) {
    let words = argument.trim_start_matches('-');
    words.split_once('=').map_or((words, None), |(name, value)| (name, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str], minor: u16) -> Result<Vec<String>, String> {
        let replaced = replaced(arguments.iter().copied(), minor).map_err(str::to_owned)?;
        Ok(replaced.into_iter().map(|(old, new)| format!("{old} → {}", new.unwrap_or_default())).collect())
    }

    #[test]
    fn what_a_version_does_not_know_gets_its_successor() {
        for (arguments, minor, wanted) in [
            // As kubeadm 1.34 to 1.37 write it.
            (
                &["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"][..],
                7,
                &[][..],
            ),
            (&["--experimental-initial-corrupt-check=true"], 6, &[]),
            // As kubeadm writes it for etcd 3.5.
            (
                &[
                    "--experimental-initial-corrupt-check=true",
                    "--experimental-watch-progress-notify-interval=5s",
                ],
                7,
                &[
                    "--experimental-initial-corrupt-check=true → --feature-gates=InitialCorruptCheck=true",
                    "--experimental-watch-progress-notify-interval=5s → --watch-progress-notify-interval=5s",
                ],
            ),
            (
                &[
                    "--experimental-compact-hash-check-enabled",
                    "--name=m1",
                    "--feature-gates=InitialCorruptCheck=true",
                ],
                7,
                &[
                    "--experimental-compact-hash-check-enabled → ",
                    "--feature-gates=InitialCorruptCheck=true → --feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
                ],
            ),
            (
                &[
                    "--experimental-initial-corrupt-check=true",
                    "--experimental-enable-lease-checkpoint=false",
                ],
                7,
                &[
                    "--experimental-initial-corrupt-check=true → --feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=false",
                    "--experimental-enable-lease-checkpoint=false → ",
                ],
            ),
            (
                &["--experimental-initial-corrupt-check=true", "--feature-gates=InitialCorruptCheck=false"],
                7,
                &["--experimental-initial-corrupt-check=true → "],
            ),
            (&["--experimental-max-learners=2"], 6, &["--experimental-max-learners=2 → --max-learners=2"]),
        ] {
            assert_eq!(told(arguments, minor).unwrap(), wanted, "{arguments:?}");
        }
    }

    #[test]
    fn what_has_no_successor_is_named() {
        assert_eq!(told(&["--name=m1", "--enable-v2=true"], 6), Err("--enable-v2=true".to_owned()));
        assert_eq!(told(&["--discovery=https://x"], 6), Ok(vec![]));
        assert_eq!(told(&["--discovery=https://x"], 7), Err("--discovery=https://x".to_owned()));
    }
}
