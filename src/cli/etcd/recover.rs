//! `rsadm etcd recover`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::recovery::Ground;
use crate::{
    backup::file::sum,
    cli::{CliError, Context, Exit, InventoryArg},
    etcd::status::{EtcdReport, MemberReport, Verdict},
    exec::gate,
    inventory::NodeName,
    plan::{Refusal, quorum::quorum},
    ui::text::table,
};

/// Make etcd anew from its best survivor, where the quorum is lost for good
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It looks first, and changes nothing while it looks: the term, index and revision of every survivor.
The one that is furthest is named, its write-ahead log is replayed on a copy, alone, and every host
that answers starts anew with the outcome. Old data is set aside on every host, not deleted.

Where enough members could still be started, it says so and does nothing: started members lose
nothing, while a recovery loses what only the lost members knew.

Examples:
  rsadm etcd recover --diagnose
  rsadm etcd recover inventories/prod.yaml")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// Only look, and say which survivor it would take
    #[arg(long)]
    pub(in crate::cli) diagnose: bool,
}

/// What is left of a cluster.
#[derive(Serialize)]
struct Diagnosis {
    survivors: Vec<Survivor>,
    /// Members there were, as far as a survivor tells.
    voters: usize,
    best: Option<String>,
}

#[derive(Serialize)]
struct Survivor {
    host: String,
    running: bool,
    raft_term: Option<u64>,
    raft_index: Option<u64>,
    hash: Option<String>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let command = format!("etcd recover{}", args.inventory.as_typed());
    let ground = Ground::open(context, &args.inventory, &command).await?;
    let under_way = ground.under_way().await?;
    if let Some((survivor, _)) = &under_way {
        return recover(ground, context, survivor.clone()).await;
    }
    let members = ground.members();
    let report = gate::report(&members, time::OffsetDateTime::now_utc()).await;
    if report.verdict != Verdict::NoQuorum {
        return Err(CliError::new(Exit::Refused, "etcd has a quorum: there is nothing to recover from")
            .hint(format!(
                "rsadm etcd status{} shows every member; rsadm etcd replace heals a single one",
                args.inventory.as_typed()
            )));
    }
    let diagnosis = diagnose(&ground, &report).await?;
    // A program reads one document: what came of the recovery.
    if args.diagnose || !context.ui.settings().json {
        context.print(&diagnosis, text)?;
    }
    if args.diagnose {
        return Ok(Exit::NoQuorum);
    }
    ground.nobody_else_serves().await?;
    let best = choice(&diagnosis, &args.inventory.as_typed())?;
    let mut question = format!(
        "This makes etcd of the cluster {} anew from what {best} has.\n\
         What only the lost members knew is lost for good. All old data is set aside, none is deleted.",
        ground.session.cluster.name
    );
    if let Some(warning) = ground.old_cluster_elsewhere() {
        question.push_str(&format!("\n{warning}"));
    }
    context.confirm(&question, &ground.session.cluster.name)?;
    recover(ground, context, best).await
}

/// Replays, and then restores what came of it.
async fn recover(ground: Ground<'_>, context: &Context, best: NodeName) -> Result<Exit, CliError> {
    context.stop_signal()?;
    let scratch = tempfile::tempdir().map_err(|e| CliError::new(Exit::Bug, e))?;
    let path = scratch.path().join("snapshot.db");
    let targets = ground.etcd_hosts();
    let (sha256, found) = {
        let members = ground.members();
        let restore = ground.restore_to(&members, targets.clone());
        let token = match ground.under_way().await? {
            Some((_, token)) => token,
            None => ground.recovery_token(&best),
        };
        let replayed = async {
            restore.begin(&token).await?;
            restore.fence().await?;
            restore.replay(&best, &path).await
        };
        let sha256 = replayed.await.map_err(|e| ground.failed(e))?;
        (sha256, sum(&path).map_err(|e| CliError::new(Exit::StepFailed, e))?.sha256)
    };
    if sha256 != found {
        return Err(CliError::new(Exit::StepFailed, format!("the snapshot of {best} did not arrive whole"))
            .hint("run the same again"));
    }
    ground.restore(&path, &sha256, targets).await
}

async fn diagnose(ground: &Ground<'_>, report: &EtcdReport) -> Result<Diagnosis, CliError> {
    let said = ground.diagnose().await?;
    let by_name: BTreeMap<&str, &MemberReport> =
        report.members.iter().map(|m| (m.name.as_str(), m)).collect();
    let survivors: Vec<Survivor> = said
        .into_iter()
        .filter(|(_, said)| said.lines().any(|line| line == "data"))
        .map(|(host, said)| {
            let member = by_name.get(host.as_str());
            Survivor {
                running: said.lines().any(|line| line == "running"),
                raft_term: member.and_then(|m| m.raft_term),
                raft_index: member.and_then(|m| m.raft_applied_index.max(m.raft_index)),
                hash: member.and_then(|m| m.hash.clone()),
                host: host.to_string(),
            }
        })
        .collect();
    // Raft's own measure of who is further: term first, then index (raft, section 5.4.1).
    let further = |s: &&Survivor| (s.raft_term, s.raft_index);
    let best = survivors.iter().max_by_key(further).map(|s| s.host.clone());
    Ok(Diagnosis { voters: report.quorum.voters, best, survivors })
}

fn choice(diagnosis: &Diagnosis, inventory: &str) -> Result<NodeName, CliError> {
    let no = |why: String, help: String| Refusal {
        rule: "recover",
        subject: "nothing was recovered".into(),
        why,
        help,
    };
    let names: Vec<&str> = diagnosis.survivors.iter().map(|s| s.host.as_str()).collect();
    let Some(best) = &diagnosis.best else {
        let help = format!("rsadm etcd restore{inventory} SNAPSHOT makes it anew from a snapshot");
        return Err(no("no host that answers has data of etcd".into(), help).into());
    };
    if names.len() >= quorum(diagnosis.voters) {
        let why = format!(
            "{} of {} members have their data ({}); started again they are a quorum, and nothing is lost",
            names.len(),
            diagnosis.voters,
            names.join(", ")
        );
        return Err(no(why, format!("rsadm up{inventory} --only etcd starts members that are down")).into());
    }
    Ok(NodeName::new(best.as_str()))
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut rows = vec![["SURVIVOR", "ETCD", "TERM", "INDEX", "HASH"].map(String::from).to_vec()];
    let number = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
    for s in &diagnosis.survivors {
        rows.push(vec![
            s.host.clone(),
            if s.running { "runs".into() } else { "stopped".into() },
            number(s.raft_term),
            number(s.raft_index),
            s.hash.clone().unwrap_or_else(|| "–".to_owned()),
        ]);
    }
    let mut text = format!(
        "{} of {} members have data on hosts that answer.\n{}",
        diagnosis.survivors.len(),
        diagnosis.voters,
        table(&rows)
    );
    if let Some(best) = &diagnosis.best {
        text.push_str(&format!("{best} is furthest.\n\n"));
    }
    text
}
