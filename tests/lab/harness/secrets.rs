//! Key material, and where it must not be.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Check, Fault, Lab};

/// Where hosts keep secrets, as they stand in the files.
const FILES: &str = "find /etc/kubernetes /var/lib/kubelet -type f \\( -name '*.key' -o -name '*.pem' -o -name '*.conf' \
    -o -name encryption.yaml \\) -exec cat {} +; true";

/// All that a host logs; one with an API server has its audit log.
const LOGS: &str = "journalctl --no-pager -o cat; cat /var/log/pods/*/*/*.log
    [ ! -e /etc/kubernetes/manifests/kube-apiserver.yaml ] || cat /var/log/kubernetes/audit/*.log";

/// Pieces of key material of a cluster, by which it is recognized.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Those of hosts, beside those known already.
    pub fn add(&mut self, lab: &Lab, hosts: &[&str]) -> Check {
        for host in hosts {
            self.add_from(&lab.on(host, FILES)?.ok()?.stdout).map_err(|why| format!("{host}: {why}"))?;
        }
        Ok(())
    }

    /// Those in the text of a file.
    pub fn add_from(&mut self, text: &str) -> Check {
        let found = pieces(text);
        ensure!(!found.is_empty(), "no key material in a text of {} bytes", text.len());
        self.0.extend(found);
        Ok(())
    }

    /// Passes where a text has none of it.
    pub fn are_not_in(&self, what: &str, text: &str) -> Check {
        let found: Vec<&str> =
            text.lines().filter(|line| self.0.iter().any(|secret| line.contains(secret.as_str()))).collect();
        ensure!(found.is_empty(), "{} of {} secrets in {what}: {found:?}", found.len(), self.0.len());
        Ok(())
    }

    /// Passes where none of it is in command lines, in what rsadm said or keeps of its failures, in the logs of hosts, or in files for
    /// everyone there.
    pub fn show_nowhere(&self, lab: &Lab, hosts: &[&str], said: &str, command_lines: &str) -> Check {
        self.are_not_in("command lines", command_lines)?;
        self.are_not_in("what rsadm says", said)?;
        self.are_not_in("what rsadm keeps of its failures", &lab.evidence()?)?;
        hosts.iter().try_for_each(|host| self.are_not_shown_on(lab, host))
    }

    /// Passes where a host's logs have none of it, and no files that are for everyone.
    pub fn are_not_shown_on(&self, lab: &Lab, host: &str) -> Check {
        let logs = lab.on(host, LOGS)?.ok()?.stdout;
        ensure!(logs.len() > 10_000, "{host} has no journal");
        self.are_not_in(&format!("the logs of {host}"), &logs)?;
        self.are_not_world_readable(lab, host)
    }

    /// Passes where a user without rights finds none of it in the files of a host.
    fn are_not_world_readable(&self, lab: &Lab, host: &str) -> Check {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let script = format!(
            "runuser -u nobody -- grep -rlsF -D skip -f /dev/stdin /etc /var /run /tmp /opt /home /srv /usr/local <<'END'\n{}\nEND",
            all.join("\n")
        );
        let found = lab.on(host, &script)?.stdout;
        ensure!(found.is_empty(), "anyone on {host} can read key material in {found}");
        Ok(())
    }
}

/// From the middle of each private key, where the key itself is, and each symmetric key and key of age.
fn pieces(files: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lines: Vec<&str> = files.lines().map(str::trim).collect();
    for (n, line) in lines.iter().enumerate() {
        let next = lines.get(n + 1).copied().unwrap_or_default();
        if line.starts_with("-----BEGIN") && line.ends_with("PRIVATE KEY-----") {
            found.insert(next.chars().skip(next.len().saturating_sub(16)).collect());
        } else if let Some(data) = line.strip_prefix("client-key-data:") {
            let pem = BASE64_STANDARD.decode(data.trim()).unwrap_or_default();
            found.extend(pieces(&String::from_utf8_lossy(&pem)));
            found.insert(data.trim().chars().skip(100).take(40).collect());
        } else if let Some(key) = line.strip_prefix("AGE-SECRET-KEY-") {
            found.insert(key.to_owned());
        } else if let Some(secret) = line.strip_prefix("secret:") {
            found.insert(secret.trim().trim_matches('"').to_owned());
        }
    }
    found.retain(|piece| piece.len() >= 16);
    found
}

/// The command lines of all processes of this machine, and with them of all nodes, as long as this looks.
pub struct CommandLines {
    end: Arc<AtomicBool>,
    reader: JoinHandle<HashSet<String>>,
}

impl CommandLines {
    /// Looks from now on.
    pub fn watch() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let reader = thread::spawn(move || {
            let mut seen = HashSet::new();
            while !ended.load(Ordering::Relaxed) {
                seen.extend(command_lines());
                thread::sleep(Duration::from_millis(100));
            }
            seen
        });
        Self { end, reader }
    }

    /// All that were seen, a line each.
    pub fn end(self) -> Result<String, Fault> {
        self.end.store(true, Ordering::Relaxed);
        let seen = self.reader.join().map_err(|_| "the watch panicked")?;
        Ok(seen.into_iter().collect::<Vec<_>>().join("\n"))
    }
}

fn command_lines() -> impl Iterator<Item = String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    numbered
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace(['\0', '\n'], " "))
}

#[test]
fn keys_are_recognized_in_files_and_in_kubeconfigs() {
    let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAABBBBCCCCDDDD";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\nEEEE\n-----END PRIVATE KEY-----\n");
    let kubeconfig = format!("    client-key-data: {}\n", BASE64_STANDARD.encode(&pem));
    assert_eq!(pieces(&pem), ["AAAABBBBCCCCDDDD".to_owned()].into());
    assert!(pieces(&kubeconfig).contains("AAAABBBBCCCCDDDD"));
    let encryption = "      secret: c2VjcmV0IGlzIHNlY3VyZSwgb3IgaXMgaXQ=";
    assert_eq!(pieces(encryption), ["c2VjcmV0IGlzIHNlY3VyZSwgb3IgaXMgaXQ=".to_owned()].into());
    let age = "# public key: age1qqqq\nAGE-SECRET-KEY-1AAAABBBBCCCCDDDD\n";
    assert_eq!(pieces(age), ["1AAAABBBBCCCCDDDD".to_owned()].into());
    let secrets = Secrets(pieces(&pem));
    assert!(secrets.are_not_in("a log", &pem).is_err() && secrets.are_not_in("a log", "AAAABBBB").is_ok());
}
