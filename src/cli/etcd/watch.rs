//! `rsadm etcd status --watch`: looks again and again, over connections that stay open.

use std::{
    future::pending,
    io::{self, IsTerminal},
    os::fd::AsFd,
    pin::pin,
    time::Duration,
};

use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};
use tokio::{io::Interest, net::unix::pipe::Sender, time::Instant};

use super::status::{PATIENCE, concerned, due, exit};
use crate::{
    cli::{CliError, Context, Exit, InventoryArg, interrupt, literal, session::Session},
    etcd::status::{EtcdReport, Hashes, HostState, Verdict},
    exec::survey::Survey,
    host::HostError,
    inventory::NodeName,
    line::one_line,
    ui::{
        Settings,
        etcd_status::{changes, render},
    },
};

/// Takes the cursor home and clears what is below it.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Where what is seen goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    /// Redrawn.
    Terminal,
    /// A line for each change.
    Lines,
    /// An object a line for each change.
    Json,
}

impl Screen {
    fn of(settings: Settings, is_terminal: bool) -> Self {
        match settings {
            Settings { json: true, .. } => Self::Json,
            Settings { dumb: false, .. } if is_terminal => Self::Terminal,
            _ => Self::Lines,
        }
    }
}

/// A change, as JSON has it.
#[derive(Serialize)]
struct Change<'r> {
    /// The time of day, as people have it.
    time: &'r str,
    /// The same as all times that programs get.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    verdict: Option<Verdict>,
    change: &'r str,
}

type Looking<'a> = Option<(Session<'a>, Vec<HostError>)>;

/// What a look came to.
type Look = Result<EtcdReport, CliError>;

/// Goes on until Ctrl-C or SIGTERM, or until nobody reads it any more, and ends as the last look would have.
pub(super) async fn run(
    inventory: &InventoryArg,
    context: &Context,
    pause: Duration,
) -> Result<Exit, CliError> {
    // From a pipe it may wait for somebody, who can still end it by a signal.
    context.load(inventory)?;
    let mut asked_to_end = pin!(context.minds_interrupts()?);
    let mut unread = pin!(unread());
    let screen = Screen::of(context.ui.settings(), io::stdout().is_terminal());
    let (mut looking, mut last, mut known): (Looking<'_>, Option<Look>, Option<EtcdReport>) =
        (None, None, None);
    loop {
        tokio::select! {
            now = look(&mut looking, inventory, context) => {
                // A host that cannot be reached may come back; a file that is wrong does not mend itself.
                if now.as_ref().is_err_and(|error| error.kind() != Exit::Unreachable) {
                    return now.map(|report| exit(report.verdict));
                }
                tell(context, &screen, (last.as_ref(), known.as_ref()), &now)?;
                known = now.as_ref().ok().cloned().or(known);
                last = Some(now);
            }
            () = &mut asked_to_end => break,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut asked_to_end => break,
            () = &mut unread => break,
        }
    }
    last.unwrap_or_else(|| Err(interrupt::before_anything())).map(|report| exit(report.verdict))
}

/// Ends once the reader of standard output is gone: of a cluster that is well nothing is written by which that would show
/// (`rsadm etcd status --watch | head -1`). Never, where it is a file or a terminal.
async fn unread() {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    // A file cannot be waited for.
    let Ok(stdout) = stdout.and_then(Sender::from_owned_fd_unchecked) else { return pending().await };
    match stdout.ready(Interest::ERROR).await {
        Ok(ready) if ready.is_error() => {}
        _ => pending().await,
    }
}

/// One look. Connections are opened anew once a host did not answer through them.
async fn look<'a>(looking: &mut Looking<'a>, inventory: &InventoryArg, context: &'a Context) -> Look {
    let began = Instant::now();
    let (session, unreachable) = match looking.take() {
        Some(open) => open,
        None => Session::look(context, inventory, PATIENCE, concerned).await?,
    };
    let survey = Survey {
        cluster: &session.cluster,
        fleet: &session.fleet,
        unreachable: &unreachable,
        inventory: inventory.as_typed(),
        due: due(context, began),
    };
    let mut report = survey.etcd(Hashes::Cheap, OffsetDateTime::now_utc()).await;
    literal::advice(&mut report.advice, context.inventory());
    let seen = |name: &NodeName| {
        let member = report.members.iter().find(|m| m.name == name.as_str());
        member.is_none_or(|m| matches!(m.host, Some(HostState::Seen(_))))
    };
    let all_seen = unreachable.is_empty() && session.fleet.hosts().iter().all(|h| seen(h.name()));
    *looking = all_seen.then_some((session, unreachable));
    Ok(report)
}

fn tell(context: &Context, screen: &Screen, before: Before<'_>, look: &Look) -> Result<(), CliError> {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let clock = now.format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default();
    let text = match (screen, look) {
        (Screen::Terminal, Ok(report)) => format!("{REDRAW}{clock} UTC, Ctrl-C ends\n\n{}", render(report)),
        (Screen::Terminal, Err(error)) => {
            format!("{REDRAW}{clock} UTC, Ctrl-C ends\n\n{}\n", error.message())
        }
        _ => {
            let verdict = look.as_ref().ok().map(|report| report.verdict);
            let line = |change: &String| match screen {
                Screen::Json => {
                    serde_json::to_string(&Change { time: &clock, at: now, verdict, change })
                        .unwrap_or_default()
                        + "\n"
                }
                _ => format!("{clock} {change}\n"),
            };
            news(before, look).iter().map(line).collect()
        }
    };
    context.ui.data(&text).map_err(CliError::output)
}

/// The look before, and the last that saw anything.
type Before<'a> = (Option<&'a Look>, Option<&'a EtcdReport>);

/// What is new since the look before. Once hosts can be asked again, all is, and what has changed meanwhile.
fn news((before, known): Before<'_>, now: &Look) -> Vec<String> {
    match (before, now) {
        (Some(Ok(before)), Ok(now)) => changes(Some(before), now),
        (_, Ok(now)) => {
            let mut lines = changes(None, now);
            let since = known.map(|known| changes(Some(known), now)).unwrap_or_default();
            lines.extend(since.into_iter().filter(|line| !lines.contains(line)).collect::<Vec<_>>());
            lines
        }
        (Some(Err(before)), Err(now)) if before.message() == now.message() => vec![],
        (_, Err(now)) => vec![one_line(&now.message(), "; ")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    #[test]
    fn only_a_terminal_that_can_be_redrawn_is() {
        let text = Settings::default();
        for (settings, is_terminal, screen) in [
            (text, true, Screen::Terminal),
            (text, false, Screen::Lines),
            (Settings { dumb: true, ..text }, true, Screen::Lines),
            (Settings { json: true, ..text }, true, Screen::Json),
        ] {
            assert_eq!(Screen::of(settings, is_terminal), screen, "{settings:?}");
        }
    }

    #[test]
    fn programs_get_the_date_too() {
        let at = time::macros::datetime!(2026-11-22 23:59:58 UTC);
        let change = Change { time: "23:59:58", at, verdict: Some(Verdict::NoQuorum), change: "m2 leads" };
        insta::assert_snapshot!(
            serde_json::to_string(&change).unwrap(),
            @r#"{"time":"23:59:58","at":"2026-11-22T23:59:58Z","verdict":"no-quorum","change":"m2 leads"}"#
        );
    }

    #[test]
    fn an_absence_is_told_once_and_its_end_too() {
        let away = |why: &str| -> Look { Err(CliError::new(Exit::Unreachable, why.to_owned())) };
        let healthy = || -> Look { Ok(Scene::new(3).report()) };
        let (gone, other) = (away("1 of 3 hosts cannot be used\n  m1   no route"), away("refused"));
        let news = |before: Option<&Look>, now: &Look| news((before, None), now);
        assert_eq!(news(None, &gone), ["1 of 3 hosts cannot be used; m1 no route"]);
        assert_eq!(news(Some(&gone), &away("1 of 3 hosts cannot be used\n  m1   no route")), [""; 0]);
        assert_eq!(news(Some(&gone), &other), ["refused"]);
        assert!(!news(Some(&other), &healthy()).is_empty(), "it is back");
        assert_eq!(news(Some(&healthy()), &healthy()), [""; 0]);
        let ill = Scene::new(3).silence(3, "no answer").report();
        let told = super::news((Some(&other), Some(&ill)), &healthy());
        assert_eq!(told, ["healthy: 3 of 3 voters healthy, can lose 1", "m2 leads", "m3 is well again"]);
    }
}
