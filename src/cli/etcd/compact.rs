//! `rsadm etcd compact`.

use super::tending::{Outcome, tend};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, args::unless_default},
    event::Next,
    exec::upkeep::space::compact,
};

/// Drop etcd's history, all but the newest revisions
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Values that keys have now stay. Clients that watch from a revision that is gone have to list
anew, as Kubernetes' clients do by themselves. The room becomes free inside the database files;
rsadm etcd defrag gives it back.

Examples:
  rsadm etcd compact inventories/prod.yaml
  rsadm etcd compact --keep 0")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// How many of the newest revisions stay
    #[arg(long, value_name = "N", default_value_t = KEEP)]
    pub(in crate::cli) keep: u64,
}

/// `--keep` where it is not given.
const KEEP: u64 = 1000;

impl Args {
    /// The command as it has to be typed again.
    fn command(&self) -> String {
        let keep = unless_default("--keep", self.keep, KEEP);
        format!("etcd compact{}{keep}", self.inventory.as_typed())
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    tend(context, &args.inventory, &args.command(), &GateArgs::default(), async |t| {
        let result = compact(t, args.keep).await?;
        let defrag = format!("rsadm etcd defrag{}", args.inventory.as_typed());
        let (text, next) = match result.changed {
            true => {
                ("history dropped", vec![Next::new(defrag, "gives back the room that it took in the files")])
            }
            false => ("no history to drop", vec![]),
        };
        Ok(Outcome { text: text.to_owned(), changed: usize::from(result.changed), result, next })
    })
    .await
}
