//! What several commands have in common on their command lines.

use std::{fmt::Display, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, ValueEnum, ValueHint, builder::PossibleValuesParser};

use crate::{cli::shell::quoted, phases::UP, plan::quorum::OVERRIDE, ui::Verbosity};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// Print text for people or json for programs: the result on stdout, events on stderr
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub output: Format,

    /// Tell every step that changes something; twice: every step, and the log
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Tell results, warnings and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Answer all questions with yes, but for that of --accept-quorum-loss
    #[arg(short, long, global = true)]
    pub yes: bool,

    /// Work on at most N hosts at once
    #[arg(long, global = true, value_name = "N", default_value = "64", value_parser = at_least_one)]
    pub concurrency: NonZeroUsize,

    /// Give up on a step after this time, such as 90s or 5m, instead of its own limit
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Ask for the password that sudo wants on the hosts (or set RSADM_SUDO_PASSWORD)
    #[arg(long, global = true)]
    pub ask_sudo_password: bool,
}

impl Options {
    /// How much is told.
    pub fn verbosity(&self) -> Verbosity {
        match self.verbose {
            _ if self.quiet => Verbosity::Quiet,
            0 => Verbosity::Normal,
            1 => Verbosity::Verbose,
            _ => Verbosity::Debug,
        }
    }
}

/// The inventory, first positional argument of every command that has one.
#[derive(Args, Clone, Debug)]
pub struct InventoryArg {
    /// The inventory file; - is standard input
    #[arg(value_name = "INVENTORY", default_value = "./inventory.yaml", value_hint = ValueHint::FilePath)]
    pub inventory: PathBuf,
}

/// An option of a command as it was typed; nothing where it is what goes without it.
pub(in crate::cli) fn unless_default<T: Display + PartialEq>(option: &str, value: T, default: T) -> String {
    if value == default { String::new() } else { format!(" {option} {value}") }
}

/// For commands whose steps pass the quorum gate.
#[derive(Args, Clone, Debug, Default)]
pub struct GateArgs {
    /// Go on where the quorum gate alone says no: etcd may serve no writes meanwhile. Asks for the
    /// cluster's name to be typed, whatever --yes says, or takes it as CLUSTER
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub accept_quorum_loss: Option<String>,
}

impl GateArgs {
    /// The option as it has to be typed again; empty where it was not given.
    pub fn as_typed(&self) -> String {
        match self.accept_quorum_loss.as_deref() {
            None => String::new(),
            Some("") => format!(" {OVERRIDE}"),
            Some(cluster) => format!(" {OVERRIDE}={}", quoted(cluster)),
        }
    }
}

/// Which phases are wanted; all of them by default.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseArgs {
    /// Do these phases only, separated by commas
    #[arg(long, value_name = "PHASE", value_delimiter = ',', value_parser = phase_names(), conflicts_with = "skip")]
    pub only: Vec<String>,

    /// Leave these phases out
    #[arg(long, value_name = "PHASE", value_delimiter = ',', value_parser = phase_names(), hide_possible_values = true)]
    pub skip: Vec<String>,
}

impl PhaseArgs {
    /// The option as it has to be typed again; empty where all are wanted.
    pub fn as_typed(&self) -> String {
        let option = |name: &str, phases: &[String]| match phases.is_empty() {
            true => String::new(),
            false => format!(" {name} {}", phases.join(",")),
        };
        option("--only", &self.only) + &option("--skip", &self.skip)
    }

    /// True where the phase of that name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|n| n == name);
        if self.only.is_empty() { !has(&self.skip) } else { has(&self.only) }
    }
}

/// The names in the table of `up`'s phases, each once; another name is a mistake with a suggestion.
fn phase_names() -> PossibleValuesParser {
    let mut names = Vec::new();
    for phase in UP.phases {
        if !names.contains(&phase.name) {
            names.push(phase.name);
        }
    }
    PossibleValuesParser::new(names)
}

/// How many at once.
fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of hosts; 1 or more"))
}

/// As [`duration`], and days.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) if days < 100_000 => Ok(Duration::from_secs(days * 86_400)),
        _ => read(text, "90s, 5m, 24h, 30d"),
    }
}

/// Reads `500ms`, `90s`, `5m`, `24h`, or several in a row such as `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    read(text, "500ms, 90s, 5m, 24h")
}

fn read(text: &str, examples: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is no time; a number with its unit: {examples}");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(fault()),
        };
        rest = &rest[unit..];
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(fault)?;
        total = total.checked_add(part).ok_or_else(fault)?;
    }
    match total.is_zero() {
        true => Err(format!("{text:?} is no time to wait; it has to be more than nothing")),
        false => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_and_skip_choose_phases() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (only, skip, wanted) in [
            (names(&[]), names(&[]), [true, true]),
            (names(&["etcd"]), names(&[]), [true, false]),
            (names(&[]), names(&["etcd"]), [false, true]),
        ] {
            let args = PhaseArgs { only, skip };
            assert_eq!([args.wants("etcd"), args.wants("addons")], wanted, "{args:?}");
        }
    }

    #[test]
    fn times_are_numbers_with_units() {
        for (text, millis) in [("500ms", 500), ("90s", 90_000), ("1h30m", 5_400_000), ("24h", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "0s", "5", "m", "5 m", "-5m", "5d", "1.5h", "99999999999999999999h", "18446744073709551615h"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert!(age("30").is_err_and(|said| said.contains("30d")));
    }
}
