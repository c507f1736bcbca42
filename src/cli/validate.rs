//! `rsadm validate`.

use serde::Serialize;

use crate::{
    cli::{CliError, Context, Exit, InventoryArg},
    event::summary,
    inventory::{Problem, Problems},
};

/// Check an inventory and show every problem at once
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Reads the file only: no host is asked. See rsadm preflight for the hosts. With -o json the
problems are on stdout, each with its line, path and remedy.

Examples:
  rsadm validate
  rsadm validate inventories/prod.yaml
  rsadm validate -o json | jq -r '.problems[] | \"\\(.line): \\(.path): \\(.message)\"'
  rsadm init 198.51.100.1 | rsadm validate -")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,
}

/// What was found, for programs.
#[derive(Serialize)]
struct Verdict<'p> {
    valid: bool,
    /// What makes it none; empty for a valid one.
    problems: &'p [Problem],
    #[serde(flatten)]
    valid_one: Option<Valid>,
}

/// A valid inventory.
#[derive(Serialize)]
struct Valid {
    cluster: String,
    summary: String,
    warnings: Vec<Problem>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let loaded = match context.load_to_build(&args.inventory) {
        Ok(loaded) => loaded,
        Err(error) => return Err(told(error, context)),
    };
    let (cluster, warnings) = (loaded.cluster, loaded.warnings);
    let valid = Valid { summary: summary(&cluster), cluster: cluster.name, warnings };
    let text = format!("{} is valid: {}: {}\n", args.inventory.file_name(), valid.cluster, valid.summary);
    context.print(&Verdict { valid: true, problems: &[], valid_one: Some(valid) }, |_| text)?;
    Ok(Exit::Done)
}

/// For programs the problems are the result, and stand where results do. People find them where compilers put theirs, on
/// stderr, as the error that they are.
fn told(error: CliError, context: &Context) -> CliError {
    let Some(Problems { problems, .. }) = error.problems() else { return error };
    let verdict = Verdict { valid: false, problems, valid_one: None };
    context.print(&verdict, |_| String::new()).err().unwrap_or(error)
}
