//! Why a command did not do what it was to, as the operator reads it: what kind, the chain of causes once, and hints.
//!
//! Library errors say what happened to what; only here is known what a person could do about it.

use std::{collections::BTreeMap, error::Error, io};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        exit::Exit,
        literal::{self, with_inventory},
    },
    inventory::Problems,
    plan::Refusal,
    ui::{
        lines::Style,
        text::{harmless, indent},
    },
};

/// An error with the exit code it leads to and what may help.
#[derive(Debug)]
pub struct CliError {
    kind: Exit,
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
    /// What programs get beyond the message, under its own key.
    detail: Option<(&'static str, Value)>,
    /// What stands behind the commands that are named.
    inventory: String,
}

impl CliError {
    /// An error of that kind, without hints.
    pub fn new(kind: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into(), hints: Vec::new(), detail: None, inventory: String::new() }
    }

    /// Stdout could not be written.
    pub fn output(error: io::Error) -> Self {
        Self::new(Exit::StepFailed, OutputError(error))
    }

    /// Adds what may help: one sentence, lower case, no full stop.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a value for programs.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: Value) -> Self {
        self.detail = Some((key, value));
        self
    }

    /// Names commands with this inventory, as [`InventoryArg::as_typed`](crate::cli::InventoryArg::as_typed) has it.
    #[must_use]
    pub fn about(mut self, inventory: &str) -> Self {
        inventory.clone_into(&mut self.inventory);
        if let Some(Refused(refusal)) = self.error.downcast_mut() {
            literal::refusal(refusal, inventory);
            if let Some(("refusal", value)) = &mut self.detail {
                *value = json!(refusal);
            }
        }
        self.hints.iter_mut().for_each(|hint| *hint = with_inventory(hint, inventory));
        self
    }

    /// How the command ended.
    pub fn kind(&self) -> Exit {
        self.kind
    }

    /// What went wrong, without its causes and hints.
    pub fn message(&self) -> String {
        self.error.to_string()
    }

    /// What is wrong with the inventory, where that is the error.
    pub fn problems(&self) -> Option<&Problems> {
        self.error.downcast_ref()
    }

    /// The whole, for people: the error, its causes, its hints, each on lines of its own.
    pub fn text(&self, style: Style) -> String {
        let mut chain = self.chain().into_iter();
        let mut text = match (self.heading(), chain.next()) {
            (Some(heading), Some(first)) => format!("{} {first}\n", style.error(heading)),
            (_, first) => format!("{}\n", first.unwrap_or_default()),
        };
        for cause in chain {
            text.push_str(&indent(&format!("caused by: {cause}"), 2));
        }
        for hint in &self.hints {
            let hint = hint.replace('\n', "\n      ");
            text.push_str(&indent(&format!("{} {hint}", style.warning("hint:")), 2));
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> impl Serialize {
        let mut chain = self.chain().into_iter();
        let message = chain.next().unwrap_or_default();
        let mut lines = message.lines().map(str::trim);
        ErrorEvent {
            event: "error",
            kind: self.kind,
            exit_code: self.kind.code(),
            message: lines.next().unwrap_or_default().to_owned(),
            details: lines.map(str::to_owned).collect(),
            caused_by: chain.collect(),
            hints: &self.hints,
            detail: self.detail.iter().map(|(key, value)| (*key, value)).collect(),
        }
    }

    /// The error and its sources, outermost first. A message that ends with its cause is printed once.
    fn chain(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        let mut next: Option<&dyn Error> = Some(self.error.as_ref());
        while let Some(error) = next {
            let message = harmless(&error.to_string());
            // A refusal has it where it belongs.
            let message = match error.is::<Refused>() {
                true => message,
                false => with_inventory(&message, &self.inventory),
            };
            if !messages.last().is_some_and(|last| last.ends_with(&message)) {
                messages.push(message);
            }
            next = error.source();
        }
        messages
    }

    /// What stands before the message; an inventory's problems have a headline of their own.
    fn heading(&self) -> Option<&'static str> {
        match self.kind {
            Exit::Bug => Some("internal error:"),
            Exit::Refused => Some("refused:"),
            Exit::Inventory if self.problems().is_some() => None,
            _ => Some("error:"),
        }
    }
}

impl From<Problems> for CliError {
    fn from(problems: Problems) -> Self {
        let detail = json!(problems.problems);
        Self::new(Exit::Inventory, problems).detail("problems", detail)
    }
}

/// The last line of stderr, for programs.
#[derive(Serialize)]
struct ErrorEvent<'a> {
    event: &'static str,
    kind: Exit,
    exit_code: u8,
    message: String,
    /// The lines below that headline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    caused_by: Vec<String>,
    hints: &'a [String],
    #[serde(flatten)]
    detail: BTreeMap<&'static str, &'a Value>,
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        let detail = json!(refusal);
        Self::new(Exit::Refused, Refused(refusal)).detail("refusal", detail)
    }
}

/// A refusal as it is told: what, and below it why and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{}\n{}", .0.subject, indent(&format!("{}\n{}", .0.why, .0.help), 2).trim_end())]
struct Refused(Refusal);

#[derive(Debug, thiserror::Error)]
#[error("could not write to standard output")]
struct OutputError(#[source] io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false };

    #[derive(Debug, thiserror::Error)]
    #[error("could not read ca.crt on m1")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("decode PEM: {0}")]
    struct Inner(#[source] io::Error);

    fn nested() -> Outer {
        Outer(Inner(io::Error::other("no end line\x1b[2J")))
    }

    #[test]
    fn the_chain_is_printed_once() {
        let error = CliError::new(Exit::StepFailed, nested()).hint("rsadm certs renew");
        insta::assert_snapshot!(error.text(PLAIN), @r"
        error: could not read ca.crt on m1
          caused by: decode PEM: no end line\u{1b}[2J
          hint: rsadm certs renew
        ");
    }

    #[test]
    fn programs_get_the_same() {
        let error = CliError::new(Exit::Refused, nested()).hint("wait").detail("hosts", json!(["m1"]));
        insta::assert_snapshot!(
            serde_json::to_string(&error.json()).unwrap(),
            @r#"{"event":"error","kind":"refused","exit_code":5,"message":"could not read ca.crt on m1","caused_by":["decode PEM: no end line\\u{1b}[2J"],"hints":["wait"],"hosts":["m1"]}"#
        );
    }

    #[test]
    fn a_refusal_says_why_and_the_way_out() {
        let refusal = Refusal {
            rule: "quorum",
            subject: "stopping etcd on m2 would leave 1 of 3 voters, and 2 are needed".into(),
            why: "m3 is not healthy (no answer since 14:02:11)".into(),
            help: "first: rsadm etcd replace m3".into(),
        };
        let error = CliError::from(refusal).about(" prod.yaml");
        assert_eq!(error.kind(), Exit::Refused);
        let json = serde_json::to_value(error.json()).unwrap();
        assert_eq!(json["refusal"]["help"], "first: rsadm etcd replace prod.yaml m3");
        assert_eq!(
            json["details"],
            json!(["m3 is not healthy (no answer since 14:02:11)", "first: rsadm etcd replace prod.yaml m3"])
        );
        insta::assert_snapshot!(error.text(PLAIN), @r"
        refused: stopping etcd on m2 would leave 1 of 3 voters, and 2 are needed
          m3 is not healthy (no answer since 14:02:11)
          first: rsadm etcd replace prod.yaml m3
        ");
    }

    #[test]
    fn each_kind_has_its_heading() {
        for (kind, heading) in [
            (Exit::Bug, "internal error: x\n"),
            (Exit::Refused, "refused: x\n"),
            (Exit::Inventory, "error: x\n"),
            (Exit::Unreachable, "error: x\n"),
        ] {
            assert_eq!(CliError::new(kind, "x").text(PLAIN), heading);
        }
    }
}
