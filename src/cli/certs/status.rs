//! `rsadm certs status`.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    cli::{CliError, Context, Exit, InventoryArg, etcd::status::exit, session::Session},
    exec::served,
    inventory::NodeName,
    observe::gather_what_answers,
    status::certificates::{Sources, assess},
    ui::certificates::render,
};

/// Show every certificate and kubeconfig: when it ends, who signed it, and whether it is what is served
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Read over SSH, and served ones by a handshake: it works with no API server and with certificates
that have expired. Ends with 8 where one is missing, has expired, ends within 30 days or is not
the one that is served, or another authority signed it, and where an authority ends within 180 days,
differs between hosts, or its key is on none of them.

Examples:
  rsadm certs status inventories/prod.yaml
  rsadm certs status -o json | jq '.certificates[] | select(.days < 90)'")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,
}

/// How long a host may take to let us in.
const PATIENCE: Duration = Duration::from_secs(4);

/// When a host's report is due.
const FACTS_DUE: Duration = Duration::from_secs(12);

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (session, mut errors) = Session::look(context, &args.inventory, PATIENCE, |_| true).await?;
    let (cluster, fleet) = (&session.cluster, &session.fleet);
    let facts = gather_what_answers(cluster, fleet, Instant::now() + FACTS_DUE);
    let ((seen, silent), served) = join(facts, served::look(cluster, fleet)).await;
    errors.extend(silent);
    let unreachable: BTreeMap<NodeName, String> =
        errors.iter().map(|e| (e.host().clone(), e.brief())).collect();
    let status = assess(&Sources {
        cluster,
        inventory: &args.inventory.as_typed(),
        seen: &seen,
        unreachable: &unreachable,
        served: &served,
        now: OffsetDateTime::now_utc(),
    });
    context.print(&status, render)?;
    Ok(exit(status.verdict))
}
