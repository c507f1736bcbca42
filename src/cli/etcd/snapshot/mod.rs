//! `rsadm etcd snapshot …`: one file a command.

use clap::Subcommand;

use crate::{
    backup::BackupError,
    cli::{CliError, Context, Exit},
};

pub(super) mod fetch;
mod ls;
mod prune;
mod remember;
pub(super) mod save;
mod verify;
pub(super) mod whence;

/// Take snapshots of etcd, and look after those that were taken
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Save(save::Args),
    Ls(ls::Args),
    Verify(verify::Args),
    Prune(prune::Args),
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::Save(args) => save::run(args, context).await,
        Command::Ls(args) => ls::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Broken { .. } | BackupError::Damaged(_) => Self::new(Exit::Refused, error)
                .hint("rsadm etcd snapshot ls shows the others; rsadm etcd snapshot save takes a new one"),
            BackupError::Store { doing, source } => {
                let hint = no_credentials(doing, &source.to_string());
                hint.into_iter().fold(Self::new(Exit::StepFailed, error), Self::hint)
            }
            BackupError::Host(_) => Self::new(Exit::Unreachable, error)
                .hint("once the host can be used, run the same command again"),
            BackupError::Task { .. } => Self::new(Exit::Bug, error),
            BackupError::Ended { .. } => Self::new(Exit::Interrupted, error),
            BackupError::Keys(_) => Self::new(Exit::Refused, error)
                .hint("without --with-pki the snapshot alone is taken; keep /etc/kubernetes elsewhere, too"),
            _ => Self::new(Exit::StepFailed, error),
        }
    }
}

/// What keeps a snapshot from being looked at, or is wrong with it, where that is the answer. That a host cannot be used says
/// nothing of the snapshot.
pub(in crate::cli::etcd) fn refused(error: BackupError) -> CliError {
    match error {
        BackupError::Host(_) | BackupError::Task { .. } => error.into(),
        error if error.is_full() => for_a_while(error),
        error => CliError::new(Exit::Refused, error),
    }
}

/// What keeps a snapshot from being kept among temporary files, for as long as it is read.
pub(super) fn for_a_while(error: BackupError) -> CliError {
    let is_full = error.is_full();
    let error = CliError::from(error);
    match is_full {
        true => error.hint("TMPDIR=/big/folder before the command names another folder for temporary files"),
        false => error,
    }
}

/// Where nobody gave credentials, the providers' libraries look for those that a machine of theirs has, at the address where
/// all of them keep these, and fail with that; Azure's wants the account first (`object_store`, `azure/builder.rs`).
fn no_credentials(doing: &str, why: &str) -> Option<String> {
    let signs = ["169.254.169.254", "metadata.google.internal", "Account must be specified"];
    signs.iter().find(|sign| why.contains(**sign))?;
    let variables = match doing {
        gs if gs.contains("gs://") => "GOOGLE_APPLICATION_CREDENTIALS, a service account's key file",
        az if az.contains("az://") => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        _ => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    };
    Some(format!(
        "there are no credentials: set etcd.backup.credentials in the inventory whose backups these are, or {variables} in \
         the environment"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_lost_is_no_step_that_failed() {
        let lost = || crate::host::HostError::Lost {
            host: crate::inventory::NodeName::new("m1"),
            doing: "list its snapshots".into(),
            why: "closed by remote host".into(),
        };
        assert_eq!(CliError::from(BackupError::from(lost())).kind(), Exit::Unreachable);
        assert_eq!(refused(lost().into()).kind(), Exit::Unreachable);
        let step = || BackupError::Step {
            host: crate::inventory::NodeName::new("m1"),
            doing: "list its snapshots".into(),
            why: "Permission denied".into(),
        };
        assert_eq!(CliError::from(step()).kind(), Exit::StepFailed);
        assert_eq!(refused(step()).kind(), Exit::Refused);
    }

    #[test]
    fn temporary_files_may_lie_elsewhere() {
        let full = || BackupError::NoRoom("no room in /tmp: 1 MiB free, and 2 MiB needed".into());
        let style = crate::ui::lines::Style { color: false };
        assert!(refused(full()).text(style).contains("hint: TMPDIR=/big/folder before the command"));
        assert!(!CliError::from(full()).text(style).contains("TMPDIR"), "of a folder that was named");
    }

    #[test]
    fn missing_credentials_are_told_by_where_they_were_looked_for() {
        for (doing, why, said) in [
            (
                "list s3://b/x",
                "Error performing PUT http://169.254.169.254/latest/api/token",
                "AWS_ACCESS_KEY_ID",
            ),
            ("list gs://b/x", "GET http://metadata.google.internal/computeMetadata/v1", "GOOGLE_APPLICATION"),
            ("use az://c/x", "Account must be specified", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("list s3://b/x", "403 Forbidden", ""),
        ] {
            let hint = no_credentials(doing, why).unwrap_or_default();
            assert!(hint.contains(said) && hint.is_empty() == said.is_empty(), "{doing}: {hint}");
        }
    }
}
