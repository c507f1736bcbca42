//! What another text of a manifest means: flag by flag, setting by setting.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read_yaml;
use crate::layout::REVISION_VARIABLE;

/// Characters of a value that are shown.
const LONGEST: usize = 100;

/// What is said where all settings stay.
const FORM: &str = "its settings stay; a file that it reads once changes, or only the form of this one";

/// Parts of settings' places below which nobody knows what stands in somebody's file.
const UNTOLD: [&str; 7] = [".env.", ".annotations.", ".command", ".args", "token", "secret", "password"];

/// What changes between two texts of a static pod's manifest or of the kubelet's configuration, a line each: `--flag: a → b`,
/// `setting: a → b`. Values that may be somebody's secrets are not shown; what holds `mark` in the new text is not known yet.
/// Empty where a text is not YAML.
pub fn difference(old: &str, new: &str, mark: &str) -> Vec<String> {
    let read = |text: &str| read_yaml(text).map(|text| settings(&text));
    let (Some(old), Some(new)) = (read(old), read(new)) else { return Vec::new() };
    let is_marked = |key: &str, value: &str| value.contains(mark) || key.contains(REVISION_VARIABLE);
    let marked: BTreeSet<&String> =
        new.iter().filter(|(key, value)| is_marked(key, value)).map(|(key, _)| key).collect();
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| !marked.contains(key)).collect();
    let lines: Vec<String> =
        keys.into_iter().filter_map(|key| line(key, old.get(key), new.get(key))).collect();
    match lines.is_empty() && !marked.is_empty() {
        true => vec![FORM.to_owned()],
        false => lines,
    }
}

fn line(key: &str, old: Option<&String>, new: Option<&String>) -> Option<String> {
    // Somebody else's text may not draw on a terminal.
    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let shown = |value: &str| match value.chars().count() > LONGEST {
        true => value.chars().take(LONGEST).chain("…".chars()).map(harmless).collect(),
        false => value.chars().map(harmless).collect::<String>(),
    };
    let place = key.to_lowercase();
    let is_untold = UNTOLD.iter().any(|part| place.contains(part));
    let change = match (old, new) {
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) if is_untold => "changes".to_owned(),
        (None, Some(_)) if is_untold => "new".to_owned(),
        (Some(_), None) if is_untold => "goes".to_owned(),
        (Some(old), Some(new)) => format!("{} → {}", shown(old), shown(new)),
        (None, Some(new)) => format!("{} (new)", shown(new)),
        (Some(old), None) => format!("{} (goes)", shown(old)),
        (None, None) => return None,
    };
    Some(format!("{}: {change}", shown(key)))
}

/// Every flag and every other setting, by its place in the text; what stands there several times, together.
fn settings(text: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(text, "", &mut found);
    found
}

fn walk(value: &Value, place: &str, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| match place {
        // There is but one container that matters in our pods, and it is the one that the file is about.
        "" | "spec.containers" => name.to_owned(),
        place => format!("{place}.{name}"),
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, &below(key), found)),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str);
                match item {
                    Value::String(text) if text.starts_with("--") => {
                        let (flag, value) = text.split_once('=').unwrap_or((text, "true"));
                        add(found, flag, value);
                    }
                    Value::Object(_) | Value::Array(_) => {
                        walk(item, &below(name.unwrap_or(&i.to_string())), found);
                    }
                    item => add(found, place, &scalar(item)),
                }
            }
        }
        value => add(found, place, &scalar(value)),
    }
}

fn add(found: &mut BTreeMap<String, String>, key: &str, value: &str) {
    let kept = found.entry(key.to_owned()).or_default();
    if !kept.is_empty() {
        kept.push_str(", ");
    }
    kept.push_str(value);
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::Cluster,
        manifests::{api_server_pod, kubelet_config, testing::ha, to_yaml},
    };

    const MARK: &str = "@MARK@";

    fn api_server(cluster: &Cluster, revision: &str) -> String {
        to_yaml("a pod", &api_server_pod(cluster, &cluster.nodes[0], revision)).unwrap()
    }

    #[test]
    fn flags_are_told_one_by_one() {
        let mut changed = ha();
        let args = &mut changed.api_server.extra_args;
        args.insert("audit-log-maxage".into(), "60".into());
        args.insert("v".into(), "4".into());
        let (old, new) = (api_server(&ha(), "abc"), api_server(&changed, MARK));
        assert_eq!(difference(&old, &new, MARK), ["--audit-log-maxage: 30 → 60", "--v: 4 (new)"]);
        assert_eq!(difference(&new, &old, MARK)[1], "--v: 4 (goes)");
    }

    #[test]
    fn a_change_of_files_alone_is_told_as_that() {
        let (old, new) = (api_server(&ha(), "abc"), api_server(&ha(), MARK));
        assert_eq!(difference(&old, &new, MARK), [FORM]);
    }

    #[test]
    fn what_somebody_put_into_an_environment_is_not_shown() {
        let new = api_server(&ha(), MARK);
        let old = new.replace("    env:\n", "    env:\n    - name: TOKEN\n      value: hidden\n");
        assert_ne!(old, new);
        let told = difference(&old, &new, MARK).join("\n");
        assert_eq!(told, "kube-apiserver.env.TOKEN.name: goes\nkube-apiserver.env.TOKEN.value: goes");
        let by_hand = "metadata:\n  annotations: {note: hidden}\nspec:\n  containers:\n  - name: x\n    command: [x, --my-token=hidden, \"--a=\\e[2Jb\"]\n";
        let told = difference(by_hand, "a: 1", MARK).join("\n");
        assert!(!told.contains("hidden") && !told.contains('\u{1b}'), "{told}");
        assert!(told.contains("--my-token: goes\n") && told.contains("--a: \u{fffd}[2Jb (goes)"), "{told}");
    }

    #[test]
    fn settings_are_told_by_their_place() {
        let old = kubelet_config(&ha(), &ha().nodes[0], None).unwrap();
        let new = format!("{old}evictionHard:\n  memory.available: 200Mi\n");
        assert_eq!(difference(&old, &new, MARK), ["evictionHard.memory.available: 200Mi (new)"]);
        assert_eq!(difference("a: [1, 2]", "a: [1]", MARK), ["a: 1, 2 → 1"]);
        assert_eq!(difference("a: [", "a: 1", MARK), [""; 0]);
    }
}
