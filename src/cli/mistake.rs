//! A command line that is none: what was probably meant by it, and the error event that programs wait for, since clap
//! knows only text.

use std::ffi::OsStr;

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue},
};

use crate::cli::{Cli, CliError, Exit};

/// Words that take something away, by the command that they stand behind: what is meant is another thing each time.
const REMOVES: [(&str, &str); 3] = [
    ("rsadm", RESET),
    ("rsadm etcd", "rsadm etcd remove takes out one member"),
    ("rsadm etcd snapshot", "rsadm etcd snapshot prune removes old ones"),
];

/// Those words.
const REMOVE: [&str; 5] = ["destroy", "delete", "remove", "rm", "uninstall"];

/// Words that are of something else behind these commands, and what there is of that.
const LISTS: [(&str, &str); 4] = [
    ("rsadm certs", "rsadm certs status"),
    ("rsadm token", "kubectl -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token"),
    ("rsadm etcd", "rsadm etcd members"),
    ("rsadm etcd snapshot", "rsadm etcd snapshot ls"),
];

/// Words and options that other tools have, at any place, and what there is here. What clap finds alike may be anything:
/// for `upgrade` it is `up`, which changes every host.
const MEANT: [(&str, &str); 24] = [
    ("upgrade", "upgrading Kubernetes is not there yet (README, Limits); etcd: rsadm etcd upgrade --plan"),
    ("restore", "rsadm etcd restore SNAPSHOT; rsadm etcd snapshot ls shows those that there are"),
    ("rollback", ROLLBACK),
    ("--rollback", ROLLBACK),
    ("renew", "rsadm certs renew"),
    ("backup", "rsadm etcd snapshot save; etcd.backup in the inventory has them taken by schedule"),
    ("create", "rsadm up builds a cluster, rsadm etcd snapshot save takes a snapshot"),
    ("list", "rsadm etcd members, and of snapshots rsadm etcd snapshot ls"),
    ("add", HOSTS),
    ("node", HOSTS),
    ("nodes", HOSTS),
    ("health", "rsadm status, and of etcd alone rsadm etcd status"),
    ("install", UP),
    ("apply", UP),
    (
        "join",
        "rsadm up joins the hosts that are new in the inventory; rsadm token create is for kubeadm join",
    ),
    ("--dry-run", "that is rsadm plan; certs renew and etcd upgrade have --plan"),
    ("-f", FILE),
    ("-i", FILE),
    ("--file", FILE),
    ("--inventory", FILE),
    ("--config", FILE),
    ("--force", "--yes answers questions; a refusal names its own way out"),
    ("--version", VERSION),
    ("-V", VERSION),
];
const RESET: &str =
    "rsadm reset takes off the hosts what up put there; rsadm etcd remove takes out one member";
const UP: &str = "rsadm plan shows what would be done, rsadm up does it";
const HOSTS: &str = "hosts come and go in the inventory, then rsadm plan and rsadm up; members alone: rsadm etcd add, remove, replace";
const ROLLBACK: &str = "rsadm etcd restore --rollback, of a recovery as well";
const FILE: &str = "name the file after the command, without an option: rsadm plan inventory.yaml";
const VERSION: &str = "rsadm --version";

/// The same with what was meant, where that is known. No word is taken for a value because it begins with a dash, and
/// commands that are hidden are none to choose from.
pub fn meant(mut error: clap::Error) -> clap::Error {
    let word =
        [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter().find_map(|k| error.get(k));
    let known = word.and_then(|word| tip(&place(&error), &word.to_string()));
    if let Some(tip) = known {
        error.remove(ContextKind::SuggestedSubcommand);
        // The usage is of the option that is suggested.
        if error.remove(ContextKind::SuggestedArg).is_some() {
            error.remove(ContextKind::Usage);
        }
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    } else if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().starts_with("to pass "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    // Nobody takes a cluster down for the sake of a letter.
    if let Some(ContextValue::Strings(mut commands)) = error.remove(ContextKind::SuggestedSubcommand) {
        commands.retain(|name| name != "reset");
        if !commands.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(commands));
        }
    }
    if let Some(ContextValue::Strings(mut commands)) = error.remove(ContextKind::ValidSubcommand) {
        commands.retain(|name| !Cli::command().find_subcommand(name).is_some_and(clap::Command::is_hide_set));
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(commands));
    }
    error
}

/// The command that did not take the word, as its usage begins.
fn place(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let words = usage.trim_start_matches("Usage:").split_whitespace();
    words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect::<Vec<_>>().join(" ")
}

/// What there is here instead of a word at a place.
fn tip(place: &str, word: &str) -> Option<&'static str> {
    let of = |known: &[(&'static str, &'static str)], key| {
        known.iter().find(|(name, _)| *name == key).map(|(_, tip)| *tip)
    };
    match word {
        _ if REMOVE.contains(&word) => of(&REMOVES, place),
        "list" => of(&LISTS, place).or_else(|| of(&MEANT, word)),
        _ => of(&MEANT, word),
    }
}

/// Flags of one letter without a value, which may stand before another in one word.
const FLAGS: [char; 4] = ['h', 'q', 'v', 'y'];

/// Whether the words ask for JSON, which has to be told before they are understood.
pub fn asks_for_json<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> bool {
    let mut last_is_option = false;
    words.into_iter().any(|word| {
        let word = word.as_ref().to_string_lossy();
        let letters = word.strip_prefix('-').map(|letters| letters.trim_start_matches(FLAGS));
        let is_value = last_is_option && word == "json";
        last_is_option = letters == Some("o") || word == "--output";
        is_value || matches!(letters, Some("ojson" | "o=json")) || word == "--output=json"
    })
}

/// clap's words: the first paragraph is what is wrong, each of the others a hint.
pub fn mistake(error: &clap::Error) -> CliError {
    let rendered = error.render().to_string();
    let lines = |paragraph: &str| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" ")
    };
    let mut paragraphs = rendered.split("\n\n").map(lines).filter(|paragraph| !paragraph.is_empty());
    // Without a command clap prints the whole help.
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CliError::new(Exit::Usage, "a command is missing").hint("--help shows those that there are");
    }
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let hint = |text: String| text.strip_prefix("tip: ").map(str::to_owned).unwrap_or(text);
    paragraphs.map(hint).fold(CliError::new(Exit::Usage, message), CliError::hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_what_the_command_is_about() {
        assert_eq!(tip("rsadm certs", "list"), Some("rsadm certs status"));
        assert_eq!(tip("rsadm etcd snapshot", "list"), Some("rsadm etcd snapshot ls"));
        assert!(tip("rsadm", "list").unwrap().starts_with("rsadm etcd members, and of snapshots"));
    }

    #[test]
    fn json_is_seen_wherever_clap_would_see_it() {
        for (words, asks) in [
            ("-o json upp", true),
            ("upp --output json", true),
            ("upp --output=json", true),
            ("upp -ojson", true),
            ("upp -o=json", true),
            ("upp -yo json", true),
            ("upp -qo json", true),
            ("upp -vojson", true),
            ("upp -vvyo=json", true),
            ("upp -vo text", false),
            ("upp -foo json", false),
            ("upp --o json", false),
            ("json -o text", false),
            ("upp json", false),
            ("-o", false),
        ] {
            assert_eq!(asks_for_json(words.split(' ')), asks, "{words}");
        }
    }
}
