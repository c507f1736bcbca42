//! `rsadm etcd recover`.

use super::{
    diagnosis::{Choice, Diagnosis},
    recovery::{Ground, UnderWay, scratch},
};
use crate::{
    backup::file::sum,
    cli::{CliError, Context, Exit, InventoryArg},
    etcd::status::Hashes,
    exec::{ask, gate, restore::revision::survivor_in},
    inventory::NodeName,
};

/// Make etcd anew from its best survivor, where the quorum is lost for good
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It looks first, and changes nothing while it looks: the term, index and revision of every survivor.
Of those whose etcd does not run it starts a copy of the data, alone, and throws it away. The one
that is furthest is named, its write-ahead log is replayed on a copy, and every host that answers
starts anew with the outcome. Old data is set aside on every host, not deleted.

A survivor whose log is damaged cannot be started, and its database may still be whole. Where that
is further than all others it refuses, and --from says which of the two to begin from.

Where enough members could still be started, it says so and does nothing: started members lose
nothing, while a recovery loses what only the lost members knew. --from HOST goes on all the same,
for members of which etcd ends one beside another, since their data is not the same.

One that broke off goes on when it is run again; rsadm etcd restore --rollback puts the old data
back instead.

Examples:
  rsadm etcd recover --diagnose
  rsadm etcd recover inventories/prod.yaml")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// Only look, and say which survivor it would take
    #[arg(long)]
    pub(in crate::cli) diagnose: bool,

    /// Begin from this survivor, whoever is further; where only its database is whole, from that
    #[arg(long, value_name = "HOST", conflicts_with = "diagnose")]
    pub(in crate::cli) from: Option<String>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let named = args.from.as_ref().map_or_else(String::new, |host| format!(" --from {host}"));
    let command = format!("etcd recover{}", args.inventory.as_typed());
    let again = format!("{command}{named}");
    let ground = Ground::open(context, &args.inventory, &again).await?;
    if !args.diagnose
        && ground.tidy_up().await?.last_over().is_some_and(|token| survivor_in(token).is_some())
        && ground.comes_to_serve().await
    {
        return ground.was_over();
    }
    let under_way = ground.under_way().await?;
    if let Some(begun @ UnderWay { survivor, placed: true, .. }) = &under_way {
        if args.diagnose {
            let text = format!("a recovery from {survivor} is under way");
            return Err(CliError::new(Exit::Refused, text).hint(format!("rsadm {command} goes on with it")));
        }
        ground.targets().await?;
        ground.nobody_is_back(begun).await?;
        ground.nobody_else_serves().await?;
        if let Some(other) = args.from.as_deref().filter(|from| *from != survivor.as_str()) {
            let text = format!("the recovery that has begun is from {survivor}, not from {other}");
            return Err(CliError::new(Exit::Refused, text).hint(format!("rsadm {command} goes on with it")));
        }
        // It was made when its data was put in place.
        let from = Choice { host: survivor.clone(), by_database: false };
        return recover(ground, context, from).await;
    }
    // One whose data is nowhere in place yet is judged anew: members that were lost may be back, and serve.
    // Whoever only looks need not wait to see whether it lasts.
    let report = match args.diagnose {
        true => ask::report(&ground.session.members()).await,
        false => gate::settled(&ground.session.members()).await,
    };
    ground.has_no_quorum(&report, under_way.as_ref())?;
    if !args.diagnose {
        ground.nobody_is_led(&report)?;
        ground.targets().await?;
        ground.nobody_else_serves().await?;
    }
    // No write waits for hashes any more.
    let compared = ask::compared(&ground.session.members(), Hashes::Whole).await;
    let diagnosis = ground.diagnose(&compared).await?;
    // A program reads one document: what came of the recovery.
    if args.diagnose || !context.ui.settings().json {
        context.print(&diagnosis, Diagnosis::text)?;
    }
    if args.diagnose {
        return Ok(Exit::NoQuorum);
    }
    let begun = under_way.as_ref().map(|u| &u.survivor);
    let from = args.from.as_deref().map(NodeName::new);
    let best = diagnosis.choice(&args.inventory.as_typed(), begun, from.as_ref())?;
    let seen = ground.session.observe().await?;
    ground.can_serve_together(&seen)?;
    ground.can_be_started(&seen).await?;
    ground.can_take_data(&seen)?;
    // What one that broke off has made already takes no more room; it is looked for again when the data is known.
    if under_way.is_none() {
        ground.has_room_to_replay(&best.host).await?;
    }
    let what = match best.by_database {
        true => {
            format!("the database of {}, whose last moments may lack what its damaged log has", best.host)
        }
        false => format!("what {} has", best.host),
    };
    let mut question = format!(
        "This makes etcd of the cluster {} anew from {what}.\n\
         What only the lost members knew is lost for good. All old data is set aside, none is deleted.",
        ground.session.cluster.name
    );
    if let Some(drops) = diagnosis.drops(&best) {
        question.push_str(&format!("\n{drops}"));
    }
    if args.from.is_some() {
        let against = diagnosis.may_be_started().into_iter().chain(diagnosis.of_several());
        against.for_each(|against| question.push_str(&format!("\n{against}.")));
        question.push_str("\nWhat other survivors have beyond that is given up.");
    }
    for warning in ground.old_cluster_elsewhere().into_iter().chain(ground.control_planes_elsewhere()) {
        question.push_str(&format!("\n{warning}"));
    }
    context.confirm(&question, &ground.session.cluster.name)?;
    if !context.options.yes {
        // Who thinks about the answer may bring members back meanwhile.
        let report = gate::settled(&ground.session.members()).await;
        ground.has_no_quorum(&report, under_way.as_ref())?;
        ground.nobody_is_led(&report)?;
        ground.nobody_else_serves().await?;
    }
    recover(ground, context, best).await
}

/// Replays, and then restores what came of it.
async fn recover(ground: Ground<'_>, context: &Context, best: Choice) -> Result<Exit, CliError> {
    context.stop_signal()?;
    let scratch = scratch()?;
    let path = scratch.path().join("snapshot.db");
    let targets = ground.targets().await?;
    let (sha256, found) = {
        let members = ground.session.members();
        let restore = ground.restore_to(&members, targets.clone());
        let token = match ground.under_way().await? {
            Some(under_way) => under_way.token,
            None => ground.recovery_token(&best.host).await?,
        };
        let replayed = async {
            restore.begin(&token).await?;
            restore.fence().await?;
            restore.replay(&best.host, best.by_database, &path).await
        };
        let sha256 = replayed.await.map_err(|e| ground.failed(e))?;
        (sha256, sum(&path).map_err(|e| CliError::new(Exit::StepFailed, e))?.sha256)
    };
    if sha256 != found {
        return Err(CliError::new(
            Exit::StepFailed,
            format!("the snapshot of {} did not arrive whole", best.host),
        )
        .hint("run the same again"));
    }
    // Of the survivor's own data its host tells whose it is.
    ground.restore(&path, &sha256, None, targets).await
}
