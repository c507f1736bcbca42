//! The commands that a help text names.

/// The commands in a help text.
pub(crate) fn commands(help: &str) -> Vec<&str> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
    let names = list
        .lines()
        .filter_map(|l| l.strip_prefix("  ")?.split_whitespace().next().filter(|_| !l.starts_with("   ")));
    names.filter(|n| *n != "help").collect()
}
