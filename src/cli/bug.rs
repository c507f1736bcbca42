//! A panic is a bug of ours: it is said so, in a few lines that can be reported, instead of Rust's own.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::{self, PanicHookInfo},
};

use crate::{
    cli::{CliError, Exit},
    ui::{json::line, lines::Style},
};

/// From now on, panics of any thread are reported in our words, on stderr; where `json` is wanted, as the event of an error.
pub fn report_panics(json: bool) {
    panic::set_hook(Box::new(move |panic| {
        let report = report(&what(panic), &Backtrace::capture());
        let text = if json { line(&report.json()) } else { report.text(Style { color: false }) };
        // Nobody to tell it to is no reason to panic again.
        let _ = io::stderr().write_all(text.as_bytes());
    }));
}

fn what(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    }
}

fn report(what: &str, backtrace: &Backtrace) -> CliError {
    let version = env!("CARGO_PKG_VERSION");
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}"),
        _ => "  RUST_BACKTRACE=1 adds where it came from".to_owned(),
    };
    let text = format!(
        "{what}\n  \
         this is a bug in rsadm {version}, not in your cluster; please report this text and the command line\n  \
         what was done on hosts stays valid: the same command goes on from what it finds\n{}",
        trace.trim_end()
    );
    CliError::new(Exit::Bug, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_says_that_it_is_ours_and_how_to_go_on() {
        let report = report("index out of bounds (src/plan/mod.rs:7)", &Backtrace::disabled());
        let text = report.text(Style { color: false });
        insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
        internal error: index out of bounds (src/plan/mod.rs:7)
          this is a bug in rsadm VERSION, not in your cluster; please report this text and the command line
          what was done on hosts stays valid: the same command goes on from what it finds
          RUST_BACKTRACE=1 adds where it came from
        ");
        let event = serde_json::to_value(report.json()).unwrap();
        assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"bug".into()));
        assert_eq!(event["message"], "index out of bounds (src/plan/mod.rs:7)");
    }
}
