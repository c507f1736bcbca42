//! The program as a person or a script meets it: stdout, stderr and exit code of runs that reach no host.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Output, Stdio},
    time::{Duration, Instant},
};

use assert_cmd::Command;

#[path = "cli/automation.rs"]
mod automation;
#[path = "commands/list.rs"]
mod list;
#[path = "cli/terminal.rs"]
mod terminal;

use list::commands;

/// Runs rsadm in an empty folder and shows all that can be seen of it.
fn rsadm(args: &str, stdin: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("rsadm").unwrap();
    let run = command
        .args(args.split_whitespace())
        .current_dir(folder.path())
        .env_clear()
        .env("COLUMNS", "100")
        .write_stdin(stdin)
        .output()
        .unwrap();
    let mut shown = String::new();
    for (name, bytes) in [("stdout", run.stdout), ("stderr", run.stderr)] {
        if !bytes.is_empty() {
            write!(shown, "{name}:\n{}", String::from_utf8(bytes).unwrap()).unwrap();
        }
    }
    write!(shown, "exit: {}", run.status.code().unwrap()).unwrap();
    shown.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

const NOT_VALID: &str = "cluster_name: prod\nkubernets_version: v1.34.0\nhosts: []\n";
const VALID: &str = "
cluster_name: prod
kubernetes_version: v1.34.0
hosts:
  - {name: m1, address: 198.51.100.1, roles: [control-plane, etcd]}
  - {name: w1, address: 198.51.100.9, roles: [worker]}
";

/// Every command, from what the help of those above it lists.
#[test]
fn help() {
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let shown = rsadm(&format!("{command} --help"), "");
        waiting
            .extend(commands(&shown).into_iter().map(|inner| format!("{command} {inner}").trim().to_owned()));
        let name = format!("help {command}").trim_end().replace(' ', "_");
        insta::assert_snapshot!(name, shown);
    }
}

#[test]
fn mistakes_on_the_command_line() {
    for (name, args) in [
        ("no_command", ""),
        ("unknown_command", "upp"),
        ("unknown_option", "up --onyl etcd"),
        ("unknown_phase", "up --only etcd,control-plan"),
        ("only_and_skip", "up --only etcd --skip addons"),
        ("quiet_and_verbose", "validate -q -v"),
        ("no_hosts_at_all", "--concurrency 0 validate"),
        ("a_time_without_unit", "up --timeout 90"),
        ("init_without_hosts", "init"),
        ("init_with_a_bad_host", "init m1=ops@host:ssh"),
        ("unknown_command_as_json", "-o json upp"),
        ("unknown_phase_as_json", "up --only foo --output=json"),
        ("init_with_a_bad_port_as_json", "init -o json 10.0.0.1:99999"),
        ("init_without_hosts_as_json", "init -ojson"),
        ("no_command_as_json", "-o json"),
    ] {
        insta::assert_snapshot!(name, rsadm(args, ""));
    }
}

/// What is told to words of other tools is what there is here, and nothing that does another thing.
#[test]
fn words_of_other_tools() {
    for (args, said) in [
        ("upgrade", "etcd: rsadm etcd upgrade --plan"),
        ("destroy", "rsadm reset takes off the hosts"),
        ("delete", "rsadm reset takes off the hosts"),
        ("remove", "rsadm etcd remove takes out one member"),
        ("rm", "rsadm reset takes off the hosts"),
        ("etcd delete m1", "rsadm etcd remove takes out one member"),
        ("etcd snapshot delete a.db", "rsadm etcd snapshot prune removes old ones"),
        ("etcd snapshot remove a.db", "rsadm etcd snapshot prune removes old ones"),
        ("etcd snapshot rm a.db", "rsadm etcd snapshot prune removes old ones"),
        ("health", "rsadm status, and of etcd alone rsadm etcd status"),
        ("etcd health", "rsadm etcd status"),
        ("install", "rsadm up does it"),
        ("apply", "rsadm up does it"),
        ("join", "rsadm up joins the hosts that are new"),
        ("up --dry-run", "that is rsadm plan"),
        (
            "up -f inventory.yaml",
            "name the file after the command, without an option: rsadm plan inventory.yaml",
        ),
        ("status -i inventory.yaml", "name the file after the command"),
        ("restore a.db", "rsadm etcd restore SNAPSHOT"),
        ("etcd recover --rollback", "rsadm etcd restore --rollback"),
        ("renew", "rsadm certs renew"),
        ("etcd snapshot create", "rsadm etcd snapshot save"),
        ("node", "hosts come and go in the inventory"),
        ("up --file inventory.yaml", "name the file after the command"),
        ("etcd status --inventory=prod.yaml", "name the file after the command"),
        ("reset --force", "a refusal names its own way out"),
        ("up --version", "rsadm --version"),
        ("up -V", "rsadm --version"),
    ] {
        let shown = rsadm(args, "");
        assert!(shown.contains(said), "{args}: {shown}");
        assert!(!shown.contains("similar") && !shown.contains("as a value"), "{args}: {shown}");
        assert!(shown.ends_with("exit: 2") && shown.matches("tip: ").count() == 1, "{args}: {shown}");
        let json = rsadm(&format!("-o json {args}"), "");
        assert!(json.contains(said) && !json.contains("tip: "), "{args}: {json}");
    }
    for args in ["token delete abcdef", "certs remove m1", "etcd snapshot rm a.db", "etcd rm m1"] {
        let shown = rsadm(args, "");
        assert!(!shown.contains("reset") && shown.ends_with("exit: 2"), "{args}: {shown}");
    }
    // Nobody takes a cluster down for the sake of a letter.
    let shown = rsadm("rstore", "");
    assert!(!shown.contains("reset'"), "{shown}");
    let shown = rsadm("up --frobnicate", "");
    assert!(shown.contains("'--frobnicate'") && !shown.contains("tip: "), "{shown}");
}

/// A host runs it, and no person.
#[test]
fn the_agent_is_no_choice() {
    let shown = rsadm("-y", "");
    assert!(shown.contains("reset, completions") && !shown.contains("agent"), "{shown}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = rsadm(&format!("completions {shell}"), "");
        assert!(!script.contains("agent"), "{shell}: {script}");
    }
}

/// It need not be read to its end.
#[test]
fn what_is_no_inventory() {
    let shown = rsadm("validate /dev/zero", "");
    assert!(shown.contains("caused by: more than 4 MiB, which is no inventory"), "{shown}");
    assert!(rsadm("validate -", &"#\n".repeat(3 << 20)).contains("more than 4 MiB"));
}

#[test]
fn validate() {
    for (name, args, stdin) in [
        ("validate_a_missing_file", "validate", ""),
        ("validate_a_missing_file_as_json", "validate -o json prod.yaml", ""),
        ("validate_a_folder", "validate .", ""),
        ("validate_with_problems", "validate -", NOT_VALID),
        ("validate_with_problems_as_json", "-o json validate -", NOT_VALID),
        ("validate_well", "validate -", VALID),
        ("validate_well_as_json", "validate - -o json", VALID),
    ] {
        insta::assert_snapshot!(name, rsadm(args, stdin));
    }
}

/// What the command line or the inventory names and is not there is told before anybody is dialled.
#[test]
fn known_before_a_host_is_reached() {
    let key = VALID.replace("hosts:", "ssh: {key_path: /nowhere/id_ed25519}\nhosts:");
    for (args, stdin, said) in [
        ("etcd add - m9", VALID, "the inventory has no host m9"),
        ("etcd remove - m9", VALID, "the inventory has no host m9"),
        ("etcd replace - m1 m9", VALID, "the inventory has no host m9"),
        ("etcd move-leader - w1", VALID, "w1 has no role etcd in the inventory"),
        ("etcd snapshot save - --member w1", VALID, "w1 has no role etcd in the inventory"),
        ("etcd snapshot ls - --from m9:", VALID, "the inventory has no host m9"),
        ("etcd restore - m9:prod-20261122T140511Z-m2-r48211.db", VALID, "the inventory has no host m9"),
        ("etcd restore - nofile.db", VALID, "there is no file nofile.db on this machine"),
        ("etcd restore p.yaml nofile.db", "", "rsadm etcd snapshot ls p.yaml shows"),
        ("etcd snapshot verify p.yaml nofile.db", "", "rsadm etcd snapshot ls p.yaml shows"),
        ("etcd restore - /dev/null", VALID, "/dev/null is no usable snapshot"),
        ("certs renew - --host m9", VALID, "the inventory has no host m9"),
        ("etcd restore --rollback snap.db", VALID, "--rollback takes no snapshot, and snap.db is one"),
        ("etcd restore p.yaml snap.db --rollback", "", "rsadm etcd restore p.yaml --rollback"),
        ("etcd restore - /tmp", VALID, "/tmp is a folder, and a snapshot a file"),
        ("etcd snapshot verify - /tmp", VALID, "/tmp is a folder, and a snapshot a file"),
        ("etcd snapshot ls - --from /dev/null", VALID, "/dev/null is a file, and --from takes a folder"),
        ("etcd snapshot save - --to s3://b/x", VALID, "s3://b/x is a bucket, and --to takes a folder"),
        (
            "etcd snapshot save - --to nowhere",
            VALID,
            "nowhere is no folder, and the name of a snapshot ends with .db",
        ),
        ("etcd snapshot save - --to nowhere/a.db", VALID, "there is no folder nowhere on this machine"),
        ("etcd snapshot prune -", VALID, "<--keep <N>|--older-than <TIME>>"),
        ("etcd bench - --duration 10m", VALID, "10m is too long a load; at most 5m"),
        ("etcd replace - m1 m1", VALID, "m1 is named twice"),
        (
            "up - --accept-quorum-loss=test",
            VALID,
            "--accept-quorum-loss names test, and this is the cluster prod",
        ),
        ("etcd remove - m1 --accept-quorum-loss=test", VALID, "this is the cluster prod"),
        ("etcd defrag - --accept-quorum-loss=test", VALID, "this is the cluster prod"),
        ("etcd upgrade - --accept-quorum-loss=test", VALID, "this is the cluster prod"),
        ("certs renew - --accept-quorum-loss=test", VALID, "this is the cluster prod"),
        ("token create - --ttl 99999999h", VALID, "--ttl ends after the year 9999"),
        ("kubeconfig - --to /dev/null/x", VALID, "could not write /dev/null/x"),
        ("kubeconfig - --to /dev", VALID, "could not write /dev"),
        ("up -", &key, "could not find the ssh key of m1: /nowhere/id_ed25519"),
    ] {
        let shown = rsadm(args, stdin);
        assert!(shown.contains(said) && !shown.contains("[connect]"), "{args}: {shown}");
        let refused = ["exit: 2", "exit: 3", "exit: 5", "exit: 6"].iter().any(|exit| shown.ends_with(exit));
        assert!(refused, "{args}: {shown}");
    }
    for (args, said) in [
        (
            "etcd add - m9",
            "a new host is written into the inventory first: - {name: …, address: …, roles: [etcd]}",
        ),
        ("etcd replace - m1 m9", "a new host is written into the inventory first"),
        ("certs renew - --host m1,m9", "the inventory has no host m9"),
        ("etcd snapshot ls - --from s3://", "s3:// names no bucket: s3://BUCKET/FOLDER"),
        ("certs renew - --expiring-within 3", "24h, 30d"),
    ] {
        let shown = rsadm(args, VALID);
        assert!(shown.contains(said), "{args}: {shown}");
    }
    let shown = rsadm("etcd status --watch 5s", "");
    assert_eq!(shown.matches("could not read").count(), 1, "{shown}");
    let shown = rsadm("validate -", &key);
    let warned =
        "warning: standard input:4:17 ssh.key_path: there is no file /nowhere/id_ed25519 on this machine";
    assert!(shown.contains(warned) && shown.ends_with("exit: 0"), "{shown}");
    // This one reads the inventory twice.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.yaml");
    std::fs::write(&file, &key).unwrap();
    let shown = rsadm(&format!("etcd snapshot ls {} --from m1:", file.display()), "");
    assert_eq!(shown.matches("warning: ").count(), 1, "{shown}");
}

/// The key file is what is wrong, and it is named.
#[test]
fn a_key_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("y.tar.age"), "sealed").unwrap();
    std::fs::write(path("key"), "no key").unwrap();
    for (command, key, said) in [
        ("restore -", "key", "it has no line AGE-SECRET-KEY-…"),
        ("restore -", "nokey", "No such file or directory"),
        ("snapshot verify -", "key", "it has no line AGE-SECRET-KEY-…"),
        ("snapshot verify -", "nokey", "No such file or directory"),
    ] {
        let shown = rsadm(&format!("etcd {command} {} --identity {}", path("y.tar.age"), path(key)), VALID);
        let named = format!("error: --identity {}: {said}", path(key));
        assert!(shown.contains(&named) && shown.contains("hint: ") && shown.ends_with("exit: 2"), "{shown}");
    }
}

/// Starts rsadm beside an ssh that does this, in a folder that stays as long as what it returns.
fn started(args: &[&str], ssh: &str) -> (tempfile::TempDir, Child) {
    let mut program = std::process::Command::new(assert_cmd::cargo::cargo_bin("rsadm"));
    program.args(args);
    started_by(program, ssh)
}

/// The same of a command that starts it.
fn started_by(mut command: std::process::Command, ssh: &str) -> (tempfile::TempDir, Child) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ssh");
    std::fs::write(&program, format!("#!/bin/sh\n{ssh}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.path().join("inventory.yaml"), VALID).unwrap();
    let child = command
        .current_dir(folder.path())
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (folder, child)
}

/// Waits until an ssh that notes each call in a file `dialled` was called so often.
fn has_dialled(folder: &tempfile::TempDir, child: &mut Child, calls: usize) {
    let dialled = || std::fs::read(folder.path().join("dialled")).map_or(0, |calls| calls.len());
    while dialled() < calls {
        assert!(child.try_wait().unwrap().is_none(), "it ended after {} of {calls} calls", dialled());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends rsadm a signal once it has dialled so often, and waits for its end.
fn signalled(args: &[&str], ssh: &str, calls: usize, signal: &str) -> Output {
    let (folder, mut child) = started(args, ssh);
    has_dialled(&folder, &mut child, calls);
    let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    child.wait_with_output().unwrap()
}

/// Whoever interrupts a command that dials wants to know whether something is half done.
#[test]
fn interrupted_while_it_connects() {
    for (json, said) in [
        ("text", "error: interrupted; nothing was changed\n"),
        ("json", r#""message":"interrupted; nothing was changed""#),
    ] {
        // An ssh that gives no answer.
        let run = signalled(&["up", "-o", json], "printf x >>dialled\nexec sleep 600", 1, "INT");
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(stderr.lines().last().unwrap().contains(said.trim_end()), "{stderr}");
        assert_eq!(run.status.code(), Some(130), "{stderr}");
    }
}

/// A service manager ends it by SIGTERM. It says once that nobody answers, and ends as its last look.
#[test]
fn a_watch_that_is_ended() {
    for signal in ["INT", "TERM"] {
        let refused = "ssh: connect to host 198.51.100.1 port 22: Connection refused";
        let ssh = &format!("printf x >>dialled\necho '{refused}' >&2\nexit 255");
        let run = signalled(&["etcd", "status", "--watch=10ms"], ssh, 4, signal);
        let stdout = String::from_utf8(run.stdout).unwrap();
        // What is so still is told once. A busy computer may be late for a refusal, which is another thing to tell.
        let told =
            stdout.lines().map(|line| line.split_once(" could not connect to m1: ").map(|(_, why)| why));
        let mut told: Vec<&str> = told.map(|why| why.expect("a line of m1")).collect();
        let all = told.len();
        told.dedup();
        assert!(all > 0 && told.len() == all, "{stdout}");
        assert_eq!(run.status.code(), Some(4), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

/// `rsadm etcd status --watch | head -1`: where nothing changes nothing is written, and it ends all the same.
#[test]
fn a_watch_that_nobody_reads_any_more() {
    let ssh = "echo 'ssh: connect to host 198.51.100.1 port 22: Connection refused' >&2\nexit 255";
    let (_folder, mut child) = started(&["etcd", "status", "--watch=1h"], ssh);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(" could not connect to m1: "), "{line}");
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill().unwrap();
                panic!("it goes on for nobody");
            }
        }
    };
    assert_eq!(status.code(), Some(4));
}

/// One count of hosts, which are those that the command needs; and that nothing has begun.
#[test]
fn hosts_that_cannot_be_used() {
    let mut inventory =
        "cluster_name: prod\nkubernetes_version: v1.34.0\nssh: {port: 1}\nhosts:\n".to_owned();
    for (n, role) in [(1, "control-plane, etcd"), (2, "etcd"), (3, "etcd"), (4, "worker")] {
        inventory += &format!(
            "  - {{name: m{n}, address: 127.0.0.{n}, internal_address: 10.0.0.{n}, roles: [{role}]}}\n"
        );
    }
    for (args, count) in [
        ("up -", "4 of 4"),
        ("certs renew -", "4 of 4"),
        ("reset -", "4 of 4"),
        ("etcd recover -", "4 of 4"),
        ("etcd upgrade -", "4 of 4"),
        ("etcd add - m1", "3 of 3"),
        ("etcd remove - m1", "3 of 3"),
        ("etcd replace - m1", "3 of 3"),
        ("etcd move-leader - m1", "3 of 3"),
        ("etcd defrag -", "3 of 3"),
        ("etcd compact -", "3 of 3"),
    ] {
        let shown = rsadm(args, &inventory);
        for (line, wanted) in [
            ("[connect] ", format!("{count} hosts cannot be used")),
            ("error: ", format!("{count} hosts cannot be used")),
            ("  hint: nothing was changed", "run the same command again".to_owned()),
        ] {
            let is_told = shown.lines().any(|l| l.starts_with(line) && l.contains(&wanted));
            assert!(is_told, "{args}: {line}{wanted}: {shown}");
        }
        let is_replaced = shown.contains("rsadm etcd replace - m1 NEW_HOST\n");
        assert_eq!(is_replaced, args == "etcd replace - m1", "{args}: {shown}");
        assert!(shown.ends_with("exit: 4"), "{args}: {shown}");
    }
}

/// What is found there is said, and what was looked through either way.
#[test]
fn a_list_of_snapshots_says_where_they_are() {
    let shown = rsadm("etcd snapshot ls - --from /dev", VALID);
    assert!(shown.starts_with("stdout:\nno snapshots in /dev on this machine\nexit: 0"), "{shown}");
    let shown = rsadm("etcd snapshot ls", "");
    assert!(shown.contains("no snapshots in /") && shown.ends_with("exit: 0"), "{shown}");
    let shown = rsadm("etcd snapshot ls prod.yaml", "");
    assert!(shown.ends_with("exit: 3"), "a file that is named has to be there: {shown}");
    let shown = rsadm("etcd snapshot ls -", VALID);
    assert!(shown.starts_with("stdout:\nno snapshots in /"), "{shown}");
    assert!(
        shown.contains("\n  rsadm etcd snapshot ls - --from hosts:  looks on the etcd hosts\n"),
        "{shown}"
    );
}

/// The inventory stands before what else is named, and what is said to any other order is the right one.
#[test]
fn words_in_the_wrong_order() {
    for (args, said, hint) in [
        ("etcd add m1 prod.yaml", "prod.yaml stands where a host", "rsadm etcd add prod.yaml m1\n"),
        ("etcd add prod.yaml", "prod.yaml stands where a host", "rsadm etcd add prod.yaml HOST\n"),
        (
            "etcd remove m1 ./clusters/prod",
            "prod stands where a host",
            "rsadm etcd remove ./clusters/prod m1\n",
        ),
        ("etcd move-leader m1 prod.yml", "prod.yml stands where", "rsadm etcd move-leader prod.yml m1\n"),
        ("etcd replace m1 prod.yaml", "prod.yaml stands where a host", "rsadm etcd replace prod.yaml m1\n"),
        ("etcd replace m1 m2 prod.yaml", "prod.yaml stands where", "rsadm etcd replace prod.yaml m1 m2\n"),
        ("etcd replace m1 prod.yaml m2", "prod.yaml stands where", "rsadm etcd replace prod.yaml m1 m2\n"),
        ("etcd replace prod.yaml", "prod.yaml stands where a host", "rsadm etcd replace prod.yaml HOST\n"),
        ("etcd replace m1 m2 m3", "a replacement takes one host, or two", "there is no file m1\n"),
        ("etcd restore", "a restore takes one snapshot", "rsadm etcd snapshot ls shows"),
        ("etcd status 5s", "could not read the inventory 5s", "with =: --watch=5s\n"),
        (
            "etcd restore a.db prod.yaml",
            "prod.yaml stands where a snap",
            "rsadm etcd restore prod.yaml a.db\n",
        ),
        ("etcd restore prod.yaml", "prod.yaml stands where", "rsadm etcd restore prod.yaml SNAPSHOT\n"),
        ("etcd snapshot verify a.db p.yaml", "p.yaml stands", "rsadm etcd snapshot verify p.yaml a.db\n"),
        ("etcd snapshot ls .", ". is a folder, and the inventory a file", "--from .\n"),
        ("etcd defrag m1", "could not read the inventory m1", "hosts follow it, or go with an option"),
        ("up prod.yaml", "could not read the inventory prod.yaml", "rsadm init HOST… > prod.yaml\n"),
        ("init prod.yaml", "prod.yaml is the name of a file", "rsadm init HOST… > prod.yaml\n"),
    ] {
        let shown = rsadm(args, "");
        assert!(shown.contains(said) && shown.contains(hint), "{args}: {shown}");
        assert!(shown.ends_with("exit: 2") || shown.ends_with("exit: 3"), "{args}: {shown}");
    }
}

/// What would keep `up` from it once all hosts are connected.
#[test]
fn a_credentials_file_is_looked_into_where_the_inventory_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s3.env");
    let inventory = format!(
        "{VALID}etcd:\n  backup: {{interval: 6h, target: 's3://b/prod', credentials: {}}}\n",
        file.display()
    );
    for (text, mode, said) in [
        ("AWS_ACCESS_KEY_ID=a\n", 0o644, "s3.env: others may read it (its mode is 0644)"),
        ("AWS_ACCESS_KEY_ID\n", 0o600, "s3.env: line 1 is not KEY=VALUE"),
        ("AWS_ACCESS_KEY_ID=a\n", 0o600, ""),
    ] {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let shown = rsadm("validate -", &inventory);
        assert!(shown.ends_with("exit: 0") && shown.contains(said), "{shown}");
        assert_eq!(shown.contains("s3.env"), !said.is_empty(), "{shown}");
    }
}

/// What `init` prints is an inventory that `validate` takes.
#[test]
fn init_then_validate() {
    let inventory = rsadm("init 198.51.100.1 198.51.100.2 198.51.100.3 ops@198.51.100.9", "");
    let inventory = inventory.strip_prefix("stdout:\n").and_then(|i| i.strip_suffix("exit: 0")).unwrap();
    insta::assert_snapshot!(rsadm("validate -", inventory));
}

/// What so few hosts do not make is told beside it.
#[test]
fn init_says_what_is_missing() {
    let one = "warning: one control plane with one etcd member: where it fails, the cluster stands still";
    let three = "warning: three control planes and no worker: no host takes ordinary pods";
    for (hosts, said) in [(1, Some(one)), (2, Some(one)), (3, Some(three)), (4, None)] {
        let arguments: String = (1..=hosts).map(|n| format!(" 198.51.100.{n}")).collect();
        let shown = rsadm(&format!("init{arguments}"), "");
        match said {
            Some(said) => assert!(shown.contains(said), "{shown}"),
            None => assert!(!shown.contains("stderr:"), "{shown}"),
        }
    }
}

/// Or else it says where not, and what is asked for there makes it one.
#[test]
fn init_with_names_says_what_is_to_be_filled_in() {
    let shown = rsadm("init a.example.org ops@b.example.org", "");
    let (inventory, said) = shown.strip_prefix("stdout:\n").unwrap().split_once("stderr:\n").unwrap();
    insta::assert_snapshot!(said);
    let mut filled = inventory.to_owned();
    for address in ["10.0.0.1", "10.0.0.2"] {
        filled = filled.replacen("internal_address:   ", &format!("internal_address: {address} "), 1);
    }
    assert!(rsadm("validate -", &filled).ends_with("exit: 0"), "{filled}");
}

/// Each script is for its shell and knows the commands.
#[test]
fn completions() {
    for (shell, sign) in [
        ("bash", "complete -F _rsadm"),
        ("zsh", "#compdef rsadm"),
        ("fish", "complete -c rsadm"),
        ("elvish", "edit:completion:arg-completer[rsadm]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = rsadm(&format!("completions {shell}"), "");
        assert!(
            script.contains(sign) && script.contains("kubeconfig") && script.ends_with("exit: 0"),
            "{shell}"
        );
    }
    insta::assert_snapshot!("completions_for_an_unknown_shell", rsadm("completions csh", ""));
}

/// A reader that went away (`rsadm … | head -1`) is no reason to fail.
#[test]
fn a_closed_stdout_is_no_error() {
    let program = assert_cmd::cargo::cargo_bin("rsadm");
    let mut child = std::process::Command::new(program)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = child.wait_with_output().unwrap();
    assert_eq!((run.status.code(), String::from_utf8(run.stderr).unwrap().as_str()), (Some(0), ""));
}
