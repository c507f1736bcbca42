//! `rsadm etcd status --watch`: looks again and again, over connections that stay open.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};
use tokio::{signal, time::Instant};

use super::status::{DUE, PATIENCE, concerned, exit};
use crate::{
    cli::{CliError, Context, Exit, InventoryArg, session::Session},
    etcd::status::{EtcdReport, HostState, Verdict},
    exec::survey::Survey,
    host::HostError,
    inventory::NodeName,
    ui::etcd_status::{changes, render},
};

/// Takes the cursor home and clears what is below it.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Where what is seen goes.
enum Screen {
    /// Redrawn.
    Terminal,
    /// A line for each change.
    Lines,
    /// An object a line for each change.
    Json,
}

/// A change, as JSON has it.
#[derive(Serialize)]
struct Change<'r> {
    time: &'r str,
    verdict: Option<Verdict>,
    change: &'r str,
}

type Looking<'a> = Option<(Session<'a>, Vec<HostError>)>;

/// Goes on until Ctrl-C, and ends as the last look would have.
pub(super) async fn run(
    inventory: &InventoryArg,
    context: &Context,
    pause: Duration,
) -> Result<Exit, CliError> {
    context.minds_interrupts();
    let screen = match (context.ui.settings().json, io::stdout().is_terminal()) {
        (true, _) => Screen::Json,
        (false, true) => Screen::Terminal,
        (false, false) => Screen::Lines,
    };
    let (mut looking, mut last): (Looking<'_>, Option<EtcdReport>) = (None, None);
    loop {
        let look = async {
            let report = look(&mut looking, inventory, context).await;
            tell(context, &screen, last.as_ref(), &report)?;
            match report {
                Ok(report) => last = Some(report),
                // A host that cannot be reached may come back; a file that is wrong does not mend itself.
                Err(error) if error.kind() != Exit::Unreachable => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            Ok(())
        };
        tokio::select! {
            looked = look => looked?,
            _ = signal::ctrl_c() => break,
        }
    }
    Ok(last.map_or(Exit::NoQuorum, |report| exit(report.verdict)))
}

/// One look. Connections are opened anew once a host did not answer through them.
async fn look<'a>(
    looking: &mut Looking<'a>,
    inventory: &InventoryArg,
    context: &'a Context,
) -> Result<EtcdReport, CliError> {
    let due = Instant::now() + DUE;
    let (session, unreachable) = match looking.take() {
        Some(open) => open,
        None => Session::look(context, inventory, PATIENCE, concerned).await?,
    };
    let survey = Survey {
        cluster: &session.cluster,
        fleet: &session.fleet,
        unreachable: &unreachable,
        inventory: inventory.as_typed(),
        due,
    };
    let report = survey.etcd(OffsetDateTime::now_utc()).await;
    let seen = |name: &NodeName| {
        let member = report.members.iter().find(|m| m.name == name.as_str());
        member.is_none_or(|m| matches!(m.host, Some(HostState::Seen(_))))
    };
    let all_seen = unreachable.is_empty() && session.fleet.hosts().iter().all(|h| seen(h.name()));
    *looking = all_seen.then_some((session, unreachable));
    Ok(report)
}

fn tell(
    context: &Context,
    screen: &Screen,
    before: Option<&EtcdReport>,
    look: &Result<EtcdReport, CliError>,
) -> Result<(), CliError> {
    let now = OffsetDateTime::now_utc();
    let clock = now.format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default();
    let text = match (screen, look) {
        (Screen::Terminal, Ok(report)) => format!("{REDRAW}{clock} UTC, Ctrl-C ends\n\n{}", render(report)),
        (Screen::Terminal, Err(error)) => {
            format!("{REDRAW}{clock} UTC, Ctrl-C ends\n\n{}\n", error.message())
        }
        (_, look) => {
            let (verdict, lines) = match look {
                Ok(report) => (Some(report.verdict), changes(before, report)),
                Err(error) => (None, vec![error.message().replace('\n', " ")]),
            };
            let line = |change: &String| match screen {
                Screen::Json => {
                    serde_json::to_string(&Change { time: &clock, verdict, change }).unwrap_or_default()
                        + "\n"
                }
                _ => format!("{clock} {change}\n"),
            };
            lines.iter().map(line).collect()
        }
    };
    context.ui.data(&text).map_err(CliError::output)
}
