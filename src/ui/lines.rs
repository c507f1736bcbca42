//! Events as lines of text: the one place that knows what a run looks like to a person. Plain output and spinners
//! both end in these lines.

use crate::{
    event::{Event, Failure, Next},
    inventory::NodeName,
    line,
    ui::{
        Verbosity,
        text::{elapsed, harmless, indent, justify, pad, table, width},
    },
};

/// Where the times of stages end.
const RIGHT_EDGE: usize = 79;
/// Where the texts of stages begin: one more than the longest tag, `[control-plane]`.
const TEXT_COLUMN: usize = 16;
/// The longest line on which a warning keeps its remedy beside it.
const LONGEST_WARNING: usize = 100;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether escape sequences are written at all.
    pub color: bool,
}

impl Style {
    /// For what failed.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For what needs attention.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// For what may be overlooked.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Turns events into lines. A phase's warnings wait for the line they stand under.
#[derive(Debug)]
pub struct Lines {
    style: Style,
    verbosity: Verbosity,
    held: Vec<(&'static str, String)>,
    /// The cause told last, and of which host: five hosts without a route fail alike.
    told: Option<(String, NodeName)>,
}

impl Lines {
    /// Nothing told yet.
    pub fn new(style: Style, verbosity: Verbosity) -> Self {
        Self { style, verbosity, held: Vec::new(), told: None }
    }

    /// The lines that an event adds, each ended by a line break; often none.
    pub fn render(&mut self, event: &Event) -> String {
        match event {
            Event::Warning { phase, host, text, help } => {
                let line = self.warning(host.as_ref(), text, help.as_deref());
                self.hold(*phase, line)
            }
            Event::StepFailed(failure) => {
                let warnings = self.release(Some(failure.phase));
                warnings + &self.failure(failure)
            }
            _ if self.verbosity == Verbosity::Quiet => String::new(),
            Event::RunStarted { cluster, summary } => format!("{cluster}: {summary}\n"),
            Event::StageStarted { .. } => String::new(),
            Event::StepStarted { phase, host, text } if self.verbosity >= Verbosity::Debug => {
                self.faint_line(&format!("{} {host}: {} …", tag(phase), one_line(text)))
            }
            Event::StepDone { phase, host, text, changed, elapsed: time } => {
                let shown = if *changed { Verbosity::Verbose } else { Verbosity::Debug };
                if self.verbosity < shown {
                    return String::new();
                }
                let text = format!("{} {host}: {}", tag(phase), one_line(text));
                self.faint_line(&justify(&text, &elapsed(*time), RIGHT_EDGE))
            }
            Event::StepStarted { .. } => String::new(),
            Event::StageDone { phase, text, elapsed: time } => {
                let text = format!("{} {}", tag(phase), one_line(text));
                let line = justify(&text, &elapsed(*time), RIGHT_EDGE);
                format!("{line}\n{}", self.release(Some(phase)))
            }
            Event::Finished { text, changed, elapsed: time, next } => {
                let last = match changed {
                    0 => justify(text, &elapsed(*time), RIGHT_EDGE),
                    _ => format!("{text} after {}", elapsed(*time)),
                };
                format!("{}{last}\n{}", self.release(None), next_commands(next))
            }
        }
    }

    /// The warnings still waiting: of one phase, or (at the end) of all.
    pub fn release(&mut self, phase: Option<&str>) -> String {
        let mut due = String::new();
        self.held.retain(|(of, line)| {
            let stays = phase.is_some_and(|p| p != *of);
            if !stays {
                due.push_str(line);
            }
            stays
        });
        due
    }

    fn hold(&mut self, phase: Option<&'static str>, line: String) -> String {
        match phase {
            Some(phase) if self.verbosity != Verbosity::Quiet => {
                self.held.push((phase, line));
                String::new()
            }
            _ => line,
        }
    }

    fn warning(&self, host: Option<&NodeName>, text: &str, help: Option<&str>) -> String {
        let subject = host.map(|h| format!(" {h}")).unwrap_or_default();
        let text = format!("{subject}: {}", one_line(text));
        let line = format!("  {}{text}", self.style.warning("warning"));
        let Some(help) = help.map(one_line) else {
            return line + "\n";
        };
        let plain_width = width("  warning") + width(&text);
        match plain_width + width(&help) + 4 <= LONGEST_WARNING {
            true => format!("{line}  → {help}\n"),
            false => format!("{line}\n          → {help}\n"),
        }
    }

    fn failure(&mut self, failure: &Failure) -> String {
        let subject = failure.host.as_ref().map(|h| format!("{h}: ")).unwrap_or_default();
        let headline = format!("{} {subject}{}", tag(failure.phase), one_line(&failure.step));
        let mut text = format!("{}\n", self.style.error(&headline));
        let mut add = |line: &str| text.push_str(&indent(&harmless(line), 2));
        let alike = match (&failure.cause, &self.told) {
            (Some(cause), Some((told, host))) if cause == told => Some(host.clone()),
            _ => None,
        };
        if let Some(host) = alike {
            add(&format!("cause: the same as on {host}"));
            failure.state.iter().for_each(|line| add(line));
            return text;
        }
        if let Some(cause) = &failure.cause {
            add(&format!("cause: {cause}"));
            self.told = failure.host.clone().map(|host| (cause.clone(), host));
        }
        if let Some(likely) = &failure.likely {
            add(&format!("likely: {likely}"));
        }
        failure.collected.iter().chain(&failure.state).for_each(|line| add(line));
        if !failure.next.is_empty() {
            add(&format!("next: {}", failure.next));
        }
        if let Some(log) = &failure.log {
            add(&format!("all that was collected: {}", log.display()));
        }
        text
    }

    fn faint_line(&self, line: &str) -> String {
        self.style.faint(line) + "\n"
    }
}

/// `[etcd]`, filled up so that texts line up.
pub fn tag(phase: &str) -> String {
    pad(&format!("[{phase}]"), TEXT_COLUMN - 1)
}

fn next_commands(next: &[Next]) -> String {
    let rows: Vec<[&str; 2]> = next.iter().map(|n| [n.command.as_str(), n.why.as_str()]).collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n{}", indent(&table(&rows), 2)),
    }
}

/// One thing that happened is one line, whatever a host wrote.
pub fn one_line(text: &str) -> String {
    harmless(&line::one_line(text, " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::sample;

    fn shown(verbosity: Verbosity, events: &[Event]) -> String {
        let mut lines = Lines::new(Style { color: false }, verbosity);
        events.iter().map(|e| lines.render(e)).collect()
    }

    #[test]
    fn a_whole_run() {
        insta::assert_snapshot!(shown(Verbosity::Normal, &sample::run()));
    }

    #[test]
    fn a_whole_run_verbose() {
        insta::assert_snapshot!(shown(Verbosity::Verbose, &sample::run()));
    }

    #[test]
    fn quiet_keeps_what_is_wrong() {
        let mut events = sample::run();
        events.push(sample::failure());
        insta::assert_snapshot!(shown(Verbosity::Quiet, &events));
    }

    #[test]
    fn a_failure_says_where_what_why_and_how_to_go_on() {
        insta::assert_snapshot!(shown(Verbosity::Normal, &[sample::failure()]));
    }

    #[test]
    fn hosts_that_fail_alike_tell_it_once() {
        let on = |host: &str, cause: &str| {
            let Event::StepFailed(failure) = sample::failure() else { unreachable!() };
            Event::StepFailed(Failure {
                host: Some(NodeName::new(host)),
                cause: Some(cause.into()),
                collected: vec![],
                log: None,
                state: vec![],
                next: String::new(),
                ..failure
            })
        };
        let events = [on("m1", "no route"), on("m2", "no route"), on("m3", "disk full")];
        insta::assert_snapshot!(shown(Verbosity::Normal, &events), @"
        [control-plane] m1: kube-apiserver did not become ready within 120 s
          cause: no route
          likely: certificates of two clusters have been mixed up
        [control-plane] m2: kube-apiserver did not become ready within 120 s
          cause: the same as on m1
        [control-plane] m3: kube-apiserver did not become ready within 120 s
          cause: disk full
          likely: certificates of two clusters have been mixed up
        ");
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        insta::assert_snapshot!(
            shown(Verbosity::Normal, &[sample::in_sync()]),
            @"in sync: 5 hosts, 212 things checked, nothing to change                   0.7 s"
        );
    }

    #[test]
    fn warnings_of_an_unfinished_stage_are_not_lost() {
        let mut lines = Lines::new(Style { color: false }, Verbosity::Normal);
        let warning =
            Event::Warning { phase: Some("etcd"), host: None, text: "slow disk".into(), help: None };
        assert_eq!(lines.render(&warning), "");
        assert_eq!(lines.release(None), "  warning: slow disk\n");
        assert_eq!(lines.release(None), "");
    }

    #[test]
    fn colour_adds_escape_sequences_and_nothing_else() {
        let mut events = sample::run();
        events.push(sample::failure());
        let mut lines = Lines::new(Style { color: true }, Verbosity::Debug);
        let mut colored: String = events.iter().map(|e| lines.render(e)).collect();
        for code in ["\x1b[1;31m", "\x1b[1;33m", "\x1b[2m", "\x1b[0m"] {
            assert!(colored.contains(code), "{code:?} is unused");
            colored = colored.replace(code, "");
        }
        assert_eq!(colored, shown(Verbosity::Debug, &events));
    }
}
