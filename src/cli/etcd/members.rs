//! `rsadm etcd members`.

use serde::Serialize;

use super::live::Live;
use crate::{
    cli::{CliError, Context, Exit, InventoryArg},
    etcd::status::{EtcdReport, Id, MemberReport},
    ui::text::table,
};

/// List the members of etcd, as etcd itself has them
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It ends with 8 where etcd status would warn of something, and with 9 where no quorum stands
behind the list.

Examples:
  rsadm etcd members inventories/prod.yaml
  rsadm etcd members -o json | jq -r '.members[].id'")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,
}

/// The member list.
#[derive(Serialize)]
struct List<'a> {
    cluster_id: Option<Id>,
    /// False where no quorum stands behind the list, and it may be old.
    linearizable: bool,
    members: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    id: Option<Id>,
    peer_urls: &'a [String],
    client_urls: &'a [String],
    role: &'static str,
    healthy: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let live = Live::open(context, &args.inventory, crate::event::Events::none()).await?;
    let report = live.report().await;
    let list = List {
        cluster_id: report.cluster_id,
        linearizable: report.view.as_ref().is_some_and(|v| v.linearizable),
        members: report.members.iter().filter(|m| m.id.is_some()).map(listed).collect(),
    };
    context.print(&list, |list| text(list, &report))?;
    Ok(super::status::exit(report.verdict))
}

fn listed(m: &MemberReport) -> Listed<'_> {
    let role = match m {
        m if m.is_learner => "learner",
        m if m.is_leader => "leader",
        _ => "voter",
    };
    Listed {
        name: &m.name,
        id: m.id,
        peer_urls: &m.peer_urls,
        client_urls: &m.client_urls,
        role,
        healthy: m.healthy,
    }
}

fn text(list: &List<'_>, report: &EtcdReport) -> String {
    let mut rows =
        vec![["MEMBER", "ID", "ROLE", "PEER URL", "CLIENT URL", "STATE"].map(String::from).to_vec()];
    for m in &list.members {
        let trouble = report.members.iter().find(|r| r.id == m.id).and_then(|r| r.error.as_ref());
        rows.push(vec![
            m.name.to_owned(),
            m.id.map(|id| id.to_string()).unwrap_or_default(),
            m.role.to_owned(),
            m.peer_urls.join(","),
            m.client_urls.join(","),
            trouble.map_or_else(|| "healthy".to_owned(), ToString::to_string),
        ]);
    }
    let mut text = table(&rows);
    if !list.linearizable {
        text.push_str("No quorum stands behind this list: it is one member's own view and may be old.\n");
    }
    text
}
