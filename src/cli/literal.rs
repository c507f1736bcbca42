//! Commands that are suggested, as they have to be typed: with the inventory that this one was given.
//!
//! Whoever refuses or fails knows what helps, and not what the operator's file is called.

/// Those that take an inventory first. `rsadm reset` is not among them: where it is suggested, it is with another one.
const COMMANDS: [&str; 15] = [
    "rsadm certs renew",
    "rsadm certs status",
    "rsadm etcd add",
    "rsadm etcd defrag",
    "rsadm etcd members",
    "rsadm etcd recover",
    "rsadm etcd remove",
    "rsadm etcd replace",
    "rsadm etcd restore",
    "rsadm etcd snapshot ls",
    "rsadm etcd status",
    "rsadm etcd upgrade",
    "rsadm plan",
    "rsadm preflight",
    "rsadm up",
];

/// The text with `inventory` (empty for the default, else with a space before it) behind each command that lacks it.
pub(super) fn with_inventory(text: &str, inventory: &str) -> String {
    let mut text = text.to_owned();
    for command in COMMANDS {
        let mut from = 0;
        while let Some(at) = text[from..].find(command) {
            from += at + command.len();
            let rest = &text[from..];
            // `rsadm up` is not the beginning of another word, nor is the inventory's name.
            let ends =
                |rest: &str, more: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || more.contains(c));
            let has_it = rest.strip_prefix(inventory).is_some_and(|rest| ends(rest, "-_./"));
            if ends(rest, "-") && !has_it {
                text.insert_str(from, inventory);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("then rsadm up.", "then rsadm up prod.yaml."),
            ("rsadm upgrades nothing", "rsadm upgrades nothing"),
            ("rsadm reset with an inventory of it alone", "rsadm reset with an inventory of it alone"),
        ] {
            assert_eq!(with_inventory(text, " prod.yaml"), expected);
            assert_eq!(with_inventory(text, ""), text);
        }
    }
}
