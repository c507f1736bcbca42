//! The direction of dependencies, from the `use` lines: pure modules stay pure, foreign crates in their one place, no modules
//! of `lib.rs` form a circle, and nothing sees the command line. Every file begins by saying what it is for.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what should not be; clippy does not know its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Modules that are functions of their input alone.
const PURE: [&str; 9] = [
    "inventory",
    "layout.rs",
    "versions.rs",
    "programs.rs",
    "pki/specs.rs",
    "pki/verdict.rs",
    "manifests",
    "plan",
    "phases",
];

/// What none of them may touch.
const IMPURE: [&str; 8] =
    ["tokio", "openssh", "etcd_client", "getrandom", "SystemTime", "Instant::now", "now_utc", "crate::exec"];

/// Foreign crates and where they may be used. Two exceptions for serde_yaml: `pki/kubeconfig.rs` reads kubeconfigs back,
/// and `fake` reads the manifests that a kubelet would read.
const HOMES: [(&str, &[&str]); 8] = [
    ("openssh", &["host/ssh"]),
    ("etcd_client", &["etcd/client"]),
    ("rcgen", &["pki/issue.rs"]),
    ("flate2", &["host/pack.rs"]),
    ("indicatif", &["ui/spinner.rs"]),
    ("backoff", &["exec/wait.rs"]),
    ("tracing", &["log.rs"]),
    ("serde_yaml", &["inventory/file.rs", "manifests/mod.rs", "pki/kubeconfig.rs", "fake"]),
];

/// Who may not know whom: the file's module, the modules that it may not name.
const BLIND: [(&str, &[&str]); 11] = [
    ("inventory", &["etcd", "exec", "manifests", "observe", "phases", "pki", "plan", "ui"]),
    ("host", &["backup", "etcd", "exec", "manifests", "observe", "phases", "pki", "plan", "status", "ui"]),
    ("etcd", &["exec", "manifests", "observe", "phases", "plan", "status", "ui"]),
    ("pki", &["etcd", "exec", "manifests", "observe", "phases", "plan", "status", "ui"]),
    ("manifests", &["etcd", "exec", "observe", "phases", "pki", "plan", "status", "ui"]),
    ("observe", &["exec", "phases", "plan", "status", "ui"]),
    ("plan", &["exec", "phases", "status", "ui"]),
    ("phases", &["exec", "status", "ui"]),
    ("exec", &["status", "ui"]),
    ("backup", &["exec", "phases", "status", "ui"]),
    ("ui", &["backup", "exec", "host", "manifests", "phases", "pki"]),
];

/// What came after bash 4.4, coreutils 8.30 and systemd 244, and what does the same on all.
const TOO_NEW: [(&str, &str); 6] = [
    ("EPOCHSECONDS", "bash 5.0: $(date +%s)"),
    ("wait -p", "bash 5.1"),
    ("SRANDOM", "bash 5.1"),
    ("systemctl show -P", "systemd 246: systemctl show --value -p"),
    ("--no-copy", "coreutils 9.5"),
    ("--exchange", "coreutils 9.5"),
];

/// What installs packages of a system: hosts keep theirs as they are, and which they have is their operator's.
const PACKAGE_MANAGERS: [&str; 10] =
    ["apt", "apt-get", "aptitude", "apk", "dnf", "dpkg", "pacman", "rpm", "yum", "zypper"];

/// Tests in files of their own: the module beside them says what they are about.
const HEADLESS: &str = "tests.rs";

/// All Rust files: the path below `src` and the text of each.
fn sources() -> Vec<(String, String)> {
    files_of("rs")
}

fn files_of(kind: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == kind) {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 20, "the sources were not found");
    files
}

/// A file's own code, without comments and tests, and below it one line for each path that it imports.
fn code(text: &str) -> String {
    let own = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = own.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let imports: Vec<String> = code
        .split(';')
        .filter_map(|statement| {
            statement.trim_start().split_once("use ").filter(|(before, _)| is_plain(before))
        })
        .flat_map(|(_, tree)| paths(tree))
        .collect();
    format!("{code}\n{}\n", imports.join("\n"))
}

/// True before a `use` that is a statement: nothing, or its visibility and attributes.
fn is_plain(before: &str) -> bool {
    let last = before.lines().next_back().unwrap_or_default().trim();
    last.is_empty() || last.starts_with("pub") || last.starts_with("#[") || last.ends_with('}')
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d` and `a::c::e`.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let (mut depth, mut parts) = (1, vec![String::new()]);
    for c in rest.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (depth, c) {
            (0, _) => break,
            (1, ',') => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| paths(part)).map(|path| format!("{}{path}", prefix.trim())).collect()
}

#[test]
fn imports_are_seen_however_they_are_nested() {
    let text = "//! Head.\nuse std::fmt;\n\nuse crate::{\n    exec,\n    plan::{Action, quorum::{self, gate}},\n};\nfn f() {}\n";
    let code = code(text);
    for path in ["std::fmt", "crate::exec", "crate::plan::Action", "crate::plan::quorum::gate"] {
        assert!(code.lines().any(|line| line == path), "{path} is not in {code}");
    }
    assert!(names(&code, "crate::plan") && !names(&code, "crate::ui"));
}

/// True where the file is the module or lies in it.
fn in_module(file: &str, module: &str) -> bool {
    file == module || file.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn is_test(file: &str) -> bool {
    file.contains("/tests")
        || file.ends_with(HEADLESS)
        || file.ends_with("testing.rs")
        || file.ends_with("cis.rs")
}

/// True where a path begins with the crate's name, and not in the middle of another word.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before)
            && !part(after)
            && (word.contains("::") || word.contains('_') || after == Some(':') || word.contains("Time"))
    })
}

#[test]
fn pure_modules_are_pure() {
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(f, _)| PURE.iter().any(|m| in_module(f, m)) && !is_test(f))
    {
        let code = code(text);
        wrong.extend(IMPURE.iter().filter(|w| names(&code, w)).map(|w| format!("{file} knows {w}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_at_home() {
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(f, _)| !is_test(f)) {
        let code = code(text);
        for (name, homes) in HOMES {
            if names(&code, name) && !homes.iter().any(|home| in_module(file, home)) {
                wrong.push(format!("{file} uses {name}, which lives in {}", homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_looks_up() {
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(f, _)| !is_test(f)) {
        let code = code(text);
        let cli = !in_module(file, "cli") && file != "main.rs" && names(&code, "crate::cli");
        let fake = !in_module(file, "fake") && names(&code, "crate::fake");
        wrong.extend(cli.then(|| format!("{file} knows the command line")));
        wrong.extend(fake.then(|| format!("{file} knows the world for tests")));
        let unseen =
            BLIND.iter().filter(|(module, _)| in_module(file, module)).flat_map(|(_, others)| *others);
        let known = unseen.map(|other| format!("crate::{other}")).filter(|other| names(&code, other));
        wrong.extend(known.map(|other| format!("{file} knows {other}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The module of the crate that a file belongs to.
fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// The modules that code names, as `crate::NAME`.
fn named(code: &str) -> impl Iterator<Item = &str> {
    let ends = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    code.split("crate::").skip(1).map(move |rest| &rest[..ends(rest)])
}

/// What is left of who knows whom without those who know nobody else, and without those whom nobody else knows.
fn circles<'n>(mut knows: BTreeMap<&'n str, BTreeSet<&'n str>>) -> BTreeMap<&'n str, BTreeSet<&'n str>> {
    loop {
        let known: BTreeSet<&str> = knows.values().flatten().copied().collect();
        let before = knows.clone();
        knows.retain(|module, others| known.contains(module) && !others.is_empty());
        let left: BTreeSet<&str> = knows.keys().copied().collect();
        knows.values_mut().for_each(|others| others.retain(|other| left.contains(other)));
        if knows == before {
            return knows;
        }
    }
}

#[test]
fn modules_form_no_circle() {
    let files: Vec<(String, String)> =
        sources().into_iter().filter(|(f, _)| !is_test(f)).map(|(f, text)| (f, code(&text))).collect();
    let modules: BTreeSet<&str> = files.iter().map(|(file, _)| module(file)).collect();
    let others = |file: &str, code: &'_ str| -> Vec<&str> {
        let is_other = |name: &&str| modules.contains(name) && *name != module(file);
        named(code).filter_map(|name| modules.get(name).copied()).filter(is_other).collect()
    };
    let mut knows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, code) in &files {
        knows.entry(module(file)).or_default().extend(others(file, code));
    }
    assert!(knows["plan"].contains("observe") && knows["cli"].contains("exec"), "{knows:?}");
    let circles = circles(knows);
    let in_circle = |file: &str, other: &&str| circles.get(module(file)).is_some_and(|o| o.contains(other));
    let wrong = files.iter().flat_map(|(file, code)| {
        let others: BTreeSet<&str> = others(file, code).into_iter().filter(|o| in_circle(file, o)).collect();
        others.into_iter().map(move |other| format!("{file} knows {other}, which leads back to it"))
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn circles_are_seen_and_what_leads_to_them_is_none() {
    let lines = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "e"), ("f", "e")];
    let mut knows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([("e", BTreeSet::new())]);
    for (who, whom) in lines {
        knows.entry(who).or_default().insert(whom);
    }
    let circle = [("b", ["c"].into()), ("c", ["d"].into()), ("d", ["b"].into())];
    assert_eq!(circles(knows), BTreeMap::from(circle));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(file, _)| file);
    let silent: Vec<String> = silent.filter(|file| !file.ends_with(HEADLESS)).collect();
    assert!(silent.is_empty(), "no head comment: {}", silent.join(", "));
}

/// A host's `/etc/environment` may name a web proxy, for downloads; an API server behind it is not to be reached.
#[test]
fn scripts_ask_api_servers_past_proxies() {
    let is_wrong = |line: &str| {
        line.contains("kubectl --kubeconfig") && !line.contains("NO_PROXY='*' kubectl")
            || line.contains("curl") && line.contains("--cacert") && !line.contains("--noproxy '*'")
    };
    let lines = files_of("sh").into_iter().flat_map(|(file, text)| {
        text.lines().filter(|l| is_wrong(l)).map(|l| format!("{file}: {l}")).collect::<Vec<_>>()
    });
    assert_eq!(lines.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Neither a script nor who sends words to hosts.
#[test]
fn hosts_packages_are_left_alone() {
    let senders = sources().into_iter().filter(|(file, _)| in_module(file, "exec") && !is_test(file));
    let senders = senders.map(|(file, text)| (file, code(&text)));
    let mut wrong = Vec::new();
    for (file, text) in files_of("sh").into_iter().chain(senders) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_'));
        let calls = words.filter(|word| PACKAGE_MANAGERS.contains(word));
        wrong.extend(calls.map(|word| format!("{file} has {word}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn scripts_call_nothing_that_is_newer_than_hosts_may_be() {
    let all = files_of("sh");
    assert!(all.len() > 30, "{} scripts", all.len());
    for (name, text) in all {
        for (word, instead) in TOO_NEW {
            assert!(!text.contains(word), "{name} has {word}, which is of {instead}");
        }
        // Of bash 5.0, and empty before.
        assert!(!text.contains("EPOCHREALTIME") || text.contains("${v:-$(date"), "{name}");
    }
}
