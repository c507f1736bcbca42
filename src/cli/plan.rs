//! `rsadm plan`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::ValueHint;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg, PhaseArgs,
        literal::with_inventory,
        private_file::{can_be_written, unwritable, write},
        schedule,
        session::Session,
    },
    event::Events,
    exec::differences,
    manifests::{is_yaml_of, to_yaml},
    observe::Observed,
    phases::UP,
    plan::Plan,
    ui::plan::render,
};

/// Show what up would change, where, in which order and why, and change nothing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with 7 where changes are pending and with 0 where there are none.

Examples:
  rsadm plan inventories/prod.yaml
  rsadm plan --only etcd
  rsadm plan --observed observed.yaml       for a report of what rsadm makes of it")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    #[command(flatten)]
    pub(super) phases: PhaseArgs,

    /// Write what was observed to this file, mode 0600, from which rsadm's tests make the same plan; it has
    /// names, addresses, certificates, public keys and hashes of files in it, and nothing secret
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) observed: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    if let Some(file) = &args.observed {
        can_be_written(file).map_err(unwritable(file))?;
        is_free(file)?;
    }
    let mut session =
        Session::to_build(context, &args.inventory, Events::none(), &GateArgs::default()).await?;
    let command = format!("plan{}", args.inventory.as_typed());
    schedule::complete_for(&command, &args.phases, &mut session.cluster)?;
    let seen = session.observe().await?;
    // Before it is planned with: a wrong refusal is worth a test, too.
    if let Some(file) = &args.observed {
        keep(file, &seen)?;
    }
    let (mut plan, _) = session.plan(UP, seen, |name| args.phases.wants(name))?;
    differences::explain(&session.fleet, &mut plan).await;
    show(context, plan)
}

/// Whether nothing else is in the file, such as the inventory, which stands behind other commands at this place.
fn is_free(file: &Path) -> Result<(), CliError> {
    let found = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(unwritable(file))?,
    };
    if str::from_utf8(&found).is_ok_and(|text| text.trim().is_empty() || is_yaml_of::<Observed>(text)) {
        return Ok(());
    }
    let text = format!("{} has something else in it, and would be replaced", file.display());
    Err(CliError::new(Exit::Refused, text).hint("--observed takes the name of a new file"))
}

/// Writes what was observed as `tests/plans.rs` reads it. What hosts tell has no secret in it (`observe/facts.sh`), so nothing
/// has to be struck out here: of keys it is the public end, and the token of a cluster or a restore is a name that opens nothing.
fn keep(file: &Path, seen: &Observed) -> Result<(), CliError> {
    let text = to_yaml("what was observed", seen).map_err(|e| CliError::new(Exit::Bug, e))?;
    write(file, text.as_bytes()).map_err(unwritable(file))
}

/// Prints a plan instead of doing it. What is only waited for is nothing to change.
pub(super) fn show(context: &Context, mut plan: Plan) -> Result<Exit, CliError> {
    for notice in &mut plan.notices {
        notice.help = with_inventory(&notice.help, context.inventory());
    }
    context.print(&plan, render)?;
    Ok(if plan.changes() > 0 { Exit::ChangesPending } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{inventory::NodeName, observe::Facts};

    #[test]
    fn what_was_observed_is_private_and_read_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("observed.yaml");
        let time = 1_795_000_000_000_000_000;
        let facts = Facts { hostname: "m1: x".into(), time, asked_at: time + 1, ..Facts::default() };
        let seen = Observed { hosts: [(NodeName::new("m1"), facts)].into(), ..Observed::default() };
        keep(&file, &seen).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(serde_yaml::from_str::<Observed>(&fs::read_to_string(&file).unwrap()).unwrap(), seen);
        assert!(is_free(&file).is_ok() && is_free(&folder.path().join("new")).is_ok());
        let other = folder.path().join("other");
        for found in [&b"cluster_name: prod\nhosts: [{name: m1, address: 10.0.0.1}]\n"[..], b"\xff\0"] {
            fs::write(&other, found).unwrap();
            assert_eq!(is_free(&other).unwrap_err().kind(), Exit::Refused);
        }
        let error = keep(folder.path(), &seen).unwrap_err();
        assert!(error.message().starts_with("could not write "), "{}", error.message());
    }
}
