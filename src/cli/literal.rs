//! Commands that are suggested, as they have to be typed: with the inventory that this one was given.
//!
//! Whoever refuses or fails knows what helps, and not what the operator's file is called.

use std::sync::LazyLock;

use clap::CommandFactory;

use crate::{
    cli::Cli,
    etcd::status::Advice,
    event::{Event, Events},
    exec::lock::LOCKED,
    plan::Refusal,
};

/// Those that take an inventory first, as they are typed.
static COMMANDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut commands = Vec::new();
    collect("rsadm", Cli::command(), &mut commands);
    // Where it is suggested, it is with another inventory than that of the command.
    commands.retain(|command| command != "rsadm reset");
    commands
});

fn collect(typed: &str, mut command: clap::Command, commands: &mut Vec<String>) {
    if command.render_usage().to_string().contains("[INVENTORY]") {
        commands.push(typed.to_owned());
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        collect(&format!("{typed} {}", inner.get_name()), inner.clone(), commands);
    }
}

/// The text with `inventory` (empty for the default, else with a space before it) behind each command that lacks it.
pub(super) fn with_inventory(text: &str, inventory: &str) -> String {
    let mut text = text.to_owned();
    for command in COMMANDS.iter() {
        let mut from = 0;
        while let Some(at) = text[from..].find(command) {
            from += at + command.len();
            let rest = &text[from..];
            // `rsadm up` is not the beginning of another word, nor is the inventory's name.
            let ends =
                |rest: &str, more: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || more.contains(c));
            let has_it = rest.strip_prefix(inventory).is_some_and(|rest| ends(rest, "-_./"));
            if ends(rest, "-") && !has_it && !names_another(rest) && !is_somebodys(rest) {
                text.insert_str(from, inventory);
            }
        }
    }
    text
}

/// True where an inventory stands behind a command, be it another one: what somebody else runs is told as it was typed.
fn names_another(rest: &str) -> bool {
    let word = rest.strip_prefix(' ').and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    [".yaml", ".yml"].iter().any(|end| word.ends_with(end))
}

/// True behind a command that somebody runs, as [`holder`](crate::exec::lock::holder) tells it: `rsadm up FILE by USER@HOST (pid N)`.
fn is_somebodys(rest: &str) -> bool {
    let Some((typed, who)) = rest.split_once(" by ") else { return false };
    let mut words = who.split(' ');
    let is_user = words.next().is_some_and(|user| user.contains('@'));
    is_user && words.next() == Some("(pid") && !typed.contains(['\n', ';'])
}

/// The same in what a refusal says. Who holds a lock is told as they typed it.
pub(super) fn refusal(refusal: &mut Refusal, inventory: &str) {
    let typed = |text: &mut String| *text = with_inventory(text, inventory);
    typed(&mut refusal.subject);
    typed(&mut refusal.help);
    if refusal.rule != LOCKED {
        typed(&mut refusal.why);
    }
}

/// The same in advice, whose commands were made with it.
pub(super) fn advice(advice: &mut [Advice], inventory: &str) {
    advice.iter_mut().for_each(|advice| advice.text = with_inventory(&advice.text, inventory));
}

/// Events whose advice can be typed as it stands.
pub(super) fn typed(events: &Events, inventory: &str) -> Events {
    let (events, inventory) = (events.clone(), inventory.to_owned());
    Events::new(move |mut event| {
        match &mut event {
            Event::StepFailed(failure) => failure.next = with_inventory(&failure.next, &inventory),
            Event::Warning { help: Some(help), .. } => *help = with_inventory(help, &inventory),
            _ => {}
        }
        events.emit(event);
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{event::Failure, inventory::NodeName};

    #[test]
    fn what_somebody_else_runs_is_told_as_it_was_typed() {
        let told = "another one came to it meanwhile: rsadm up clusters/prod by ann@desk (pid 17) since 12:00; rsadm plan tells more";
        let expected = told.replace("rsadm plan", "rsadm plan prod.yaml");
        assert_eq!(with_inventory(told, " prod.yaml"), expected);
        assert_eq!(with_inventory("rsadm up by hand", " prod.yaml"), "rsadm up prod.yaml by hand");
    }

    #[test]
    fn what_fails_and_what_is_warned_of_name_the_inventory_too() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let events = Events::new(move |event| {
            sink.lock().unwrap().push(match event {
                Event::StepFailed(failure) => failure.next,
                Event::Warning { help, .. } => help.unwrap_or_default(),
                _ => String::new(),
            });
        });
        let events = typed(&events, " prod.yaml");
        let next = "rsadm etcd replace m1 makes it a member again".to_owned();
        let failure = Failure::new("etcd", NodeName::new("m1"), "start", String::new());
        events.emit(Event::StepFailed(Failure { next, ..failure }));
        events.warn("its etcd runs and knows no leader", Some("rsadm etcd status tells why".into()));
        events.warn("no advice", None);
        assert_eq!(
            *told.lock().unwrap(),
            [
                "rsadm etcd replace prod.yaml m1 makes it a member again",
                "rsadm etcd status prod.yaml tells why",
                ""
            ]
        );
    }

    /// The examples of its help show whether it takes one.
    #[test]
    fn every_command_that_takes_an_inventory_is_told_with_it() {
        fn check(typed: &str, command: &clap::Command, takes: &mut usize) {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let takes_one = examples.contains(&format!("  {typed} inventories/prod.yaml"));
            let expected = if takes_one && typed != "rsadm reset" { " prod.yaml" } else { "" };
            let text = with_inventory(&format!("{typed} shows it"), " prod.yaml");
            assert_eq!(text, format!("{typed}{expected} shows it"));
            *takes += usize::from(takes_one);
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                check(&format!("{typed} {}", inner.get_name()), inner, takes);
            }
        }
        let mut takes = 0;
        check("rsadm", &Cli::command(), &mut takes);
        assert!(takes > 20, "{takes}");
        for command in ["status", "etcd snapshot save", "kubeconfig", "etcd move-leader", "token create"] {
            let text = with_inventory(&format!("rsadm {command}"), " prod.yaml");
            assert_eq!(text, format!("rsadm {command} prod.yaml"));
        }
    }

    #[test]
    fn who_holds_a_lock_is_told_as_they_typed_it() {
        for (rule, why) in [(LOCKED, "rsadm up by ops@vm"), ("quorum", "rsadm up prod.yaml by ops@vm")] {
            let text = |text: &str| text.to_owned();
            let (subject, help) = (text("x"), text("wait, then rsadm up"));
            let mut told = Refusal { rule, subject, why: text("rsadm up by ops@vm"), help };
            refusal(&mut told, " prod.yaml");
            assert_eq!((told.why.as_str(), told.help.as_str()), (why, "wait, then rsadm up prod.yaml"));
        }
    }

    #[test]
    fn each_command_has_the_inventory_once() {
        for (text, expected) in [
            ("first: rsadm etcd replace m3", "first: rsadm etcd replace prod.yaml m3"),
            ("`rsadm up` joins it", "`rsadm up prod.yaml` joins it"),
            ("rsadm up prod.yaml --only etcd", "rsadm up prod.yaml --only etcd"),
            (
                "rsadm etcd restore --rollback; rsadm up",
                "rsadm etcd restore prod.yaml --rollback; rsadm up prod.yaml",
            ),
            (
                "rsadm etcd remove m1, then rsadm up",
                "rsadm etcd remove prod.yaml m1, then rsadm up prod.yaml",
            ),
            ("rsadm etcd restore prod.yaml --rollback", "rsadm etcd restore prod.yaml --rollback"),
            ("rsadm etcd add prod.yaml-2", "rsadm etcd add prod.yaml prod.yaml-2"),
            ("locked by rsadm up other.yaml by ops@vm", "locked by rsadm up other.yaml by ops@vm"),
            ("then rsadm up.", "then rsadm up prod.yaml."),
            ("rsadm upgrades nothing", "rsadm upgrades nothing"),
            ("rsadm reset with an inventory of it alone", "rsadm reset with an inventory of it alone"),
        ] {
            assert_eq!(with_inventory(text, " prod.yaml"), expected);
            assert_eq!(with_inventory(text, ""), text);
        }
    }
}
