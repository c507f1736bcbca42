//! `rsadm status`.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join3;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    cli::{
        CliError, Context, Exit, InventoryArg,
        etcd::status::{DUE, exit},
        literal::{self, with_inventory},
        session::Session,
    },
    etcd::status::Hashes,
    exec::{lookup, members::SshMembers, survey::Survey},
    inventory::NodeName,
    observe::{api, gather_what_answers},
    phases::{self, UP},
    status::{Sources, assess},
    ui::status::render,
};

/// Show hosts, etcd, control planes and nodes as they are, and what differs from the inventory
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with 8 where it warns of anything, with 9 where etcd has no quorum, and with 4 where no host
can be reached.

Examples:
  rsadm status inventories/prod.yaml
  rsadm status -o json")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,
}

/// How long a host may take to let us in: longer than it takes to learn that there is no route to one that is off.
const PATIENCE: Duration = Duration::from_secs(4);

/// When a host's report is due: half a second on an idle host, and busy ones are not to be called dead.
const FACTS_DUE: Duration = Duration::from_secs(12);

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (mut session, mut errors) = Session::look(context, &args.inventory, PATIENCE, |_| true).await?;
    // Without the credentials of the schedule, nobody knows what `up` would change; everything else is told.
    let is_complete = super::schedule::complete(&mut session.cluster).is_ok();
    let (due, facts_due) = (Instant::now() + DUE, Instant::now() + FACTS_DUE);
    let (cluster, fleet, inventory) = (&session.cluster, &session.fleet, args.inventory.as_typed());
    let now = OffsetDateTime::now_utc();
    let survey = Survey { cluster, fleet, unreachable: &errors, inventory: inventory.clone(), due };
    // One batch at a time goes to a host, first come first served: etcd's few words before a host's many.
    let (etcd, (mut seen, silent), api) = join3(
        survey.etcd(Hashes::Quick, now),
        gather_what_answers(cluster, fleet, facts_due),
        api::ready(cluster, fleet),
    )
    .await;
    errors.extend(silent);
    let mut plan = None;
    // Half a picture makes no plan.
    if is_complete && errors.is_empty() {
        // What `up` would see, too: a member more or less than the inventory has is a change.
        lookup::look_up(cluster, &SshMembers::new(cluster, fleet), &mut seen, Some(&etcd)).await;
        plan = Some(phases::plan(UP, cluster, seen.clone(), now, |_| true).map(|(plan, _)| plan));
    }
    if let Some(Err(refusal)) = &mut plan {
        literal::refusal(refusal, &inventory);
    }
    let unreachable: BTreeMap<NodeName, String> =
        errors.iter().map(|e| (e.host().clone(), e.brief())).collect();
    let mut status = assess(&Sources {
        cluster,
        inventory: &inventory,
        seen: &seen,
        unreachable: &unreachable,
        etcd: &etcd,
        api: &api,
        plan: plan.as_ref(),
        now,
    });
    literal::advice(&mut status.advice, &inventory);
    context.print(&status, |status| with_inventory(&render(status), &inventory))?;
    Ok(exit(status.verdict))
}
