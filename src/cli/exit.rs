//! What a command came to, as the number that scripts see. The one table of exit codes.

use std::process::ExitCode;

use serde::Serialize;

/// How a command ended. Users depend on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Everything is as wanted, or was already.
    Done,
    /// rsadm is wrong.
    Bug,
    /// The command line is wrong.
    Usage,
    /// The inventory is wrong.
    Inventory,
    /// At least one host could not be used: no connection, no root rights.
    Unreachable,
    /// What was asked for is unsafe now, or someone else is at it.
    Refused,
    /// At least one step on a host failed.
    StepFailed,
    /// `plan`, or `--plan`, found something to change.
    ChangesPending,
    /// The cluster serves, but something in it does not, or soon will not.
    Degraded,
    /// etcd serves no writes.
    NoQuorum,
    /// The operator stopped it.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Bug,
        Self::Usage,
        Self::Inventory,
        Self::Unreachable,
        Self::Refused,
        Self::StepFailed,
        Self::ChangesPending,
        Self::Degraded,
        Self::NoQuorum,
        Self::Interrupted,
    ];

    /// The number. 130 is what shells give a program that Ctrl-C ended.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Inventory => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::StepFailed => 6,
            Self::ChangesPending => 7,
            Self::Degraded => 8,
            Self::NoQuorum => 9,
            Self::Interrupted => 130,
        }
    }

    /// What it means, for the help.
    const fn about(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Bug => "a bug in rsadm",
            Self::Usage => "wrong command line",
            Self::Inventory => "wrong inventory",
            Self::Unreachable => "a host cannot be used",
            Self::Refused => "refused: unsafe, or locked by another operator",
            Self::StepFailed => "a step failed",
            Self::ChangesPending => "changes are pending (plan, certs renew --plan, etcd upgrade --plan)",
            Self::Degraded => {
                "degraded (status, etcd status, etcd members, certs status), or alarms (etcd alarm list)"
            }
            Self::NoQuorum => "no quorum (status, etcd status, members, alarm list, recover --diagnose)",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The table as it stands below `rsadm --help`.
pub(super) fn help() -> String {
    let rows = Exit::ALL.map(|e| format!("  {:>3}  {}", e.code(), e.about()));
    format!("Exit status:\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_order_and_different() {
        assert!(Exit::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    }
}
