//! What ssh's words on a failed connection mean.

use crate::host::{At, ConnectKind};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ConnectKind,
    pub(super) at: At,
    pub(super) why: String,
}

impl Failure {
    /// One of the host itself.
    pub(super) fn new(kind: ConnectKind, why: impl Into<String>) -> Self {
        Self { kind, at: At::Host, why: why.into() }
    }

    /// True where the server closed the door before a word was said, as `MaxStartups` makes it.
    pub(super) fn is_busy(&self) -> bool {
        self.kind == ConnectKind::Other && self.why.contains("kex_exchange_identification")
    }
}

/// Part of ssh's words (OpenSSH, `sshconnect.c`, `sshconnect2.c`, `misc.c`) → what it means. The first that is found
/// counts, so the more telling ones come first.
const MEANINGS: &[(&str, ConnectKind)] = &[
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", ConnectKind::ChangedHostKey),
    ("REVOKED HOST KEY DETECTED", ConnectKind::ChangedHostKey),
    ("host key is known for", ConnectKind::UnknownHostKey),
    ("Host key verification failed", ConnectKind::UnknownHostKey),
    ("Permission denied (", ConnectKind::Denied),
    ("Too many authentication failures", ConnectKind::Denied),
    ("Could not resolve hostname", ConnectKind::UnknownName),
    ("Connection refused", ConnectKind::Unreachable),
    ("timed out", ConnectKind::Unreachable),
    ("No route to host", ConnectKind::Unreachable),
    ("is unreachable", ConnectKind::Unreachable),
];

/// What stands around the news in ssh's loud warning, and what is no news.
const NOISE: &[&str] = &[
    "debug1:",
    "@",
    "IT IS POSSIBLE",
    "Someone could be",
    "It is also possible",
    "Please contact",
    "Warning: Permanently added",
    "Pseudo-terminal will not",
];

/// Reads the log of an ssh that gave up.
pub(super) fn read(log: &str) -> Failure {
    let meaning = MEANINGS.iter().find(|(part, _)| log.contains(part));
    let kind = meaning.map_or(ConnectKind::Other, |(_, kind)| *kind);
    let mut why = words(log);
    if let (ConnectKind::UnknownHostKey, Some(key)) = (kind, offered_key(log)) {
        why = format!("the host offered the key {key}; {why}");
    }
    if why.is_empty() {
        why = "ssh said nothing".into();
    }
    if let Some(key) = trusted(log) {
        why = format!("{why}; nobody knew its key, {key}, and ssh trusts it from now on");
    }
    Failure::new(kind, why)
}

/// sshd's word where its settings, or the key's, do not let it forward.
const PROHIBITED: &str = "administratively prohibited";

/// The resolver's word, which a jump host's sshd passes on, for a name that it does not know.
const UNKNOWN_NAME: &str = "Name or service not known";

/// True where a log tells of a forwarded connection that was not let through.
pub(super) fn forbids(log: &str) -> bool {
    reasons(log).any(|reason| reason.starts_with(PROHIBITED))
}

/// Why forwarded connections came to nothing (OpenSSH, `channels.c`).
fn reasons(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| line.split_once("open failed: ").map(|(_, reason)| reason.trim()))
}

/// Reads the log of a jump host's ssh. One that was let in and got no further tells why: that is about
/// the host behind it, or about what it lets nobody do.
pub(super) fn read_jump(log: &str) -> Failure {
    match reasons(log).next() {
        Some(reason) if reason.starts_with(PROHIBITED) => {
            let why = format!("it forwards no connection there: {PROHIBITED}");
            Failure { at: At::JumpHost, ..Failure::new(ConnectKind::Forbids, why) }
        }
        Some(reason) => {
            let reason = reason.strip_prefix("connect failed: ").unwrap_or(reason);
            let kind = match reason.starts_with(UNKNOWN_NAME) {
                true => ConnectKind::UnknownName,
                false => ConnectKind::Unreachable,
            };
            Failure::new(kind, format!("the jump host could not reach it: {}", reason.trim_end_matches('.')))
        }
        None if log.contains("stdio forwarding failed") => {
            Failure::new(ConnectKind::Unreachable, "the jump host could not reach it")
        }
        None => Failure { at: At::JumpHost, ..read(log) },
    }
}

/// The log as one line, without the noise.
pub(super) fn words(log: &str) -> String {
    let lines = log.lines().map(str::trim).filter(|line| !NOISE.iter().any(|noise| line.starts_with(noise)));
    let lines = lines.map(|line| line.strip_prefix("ssh: ").unwrap_or(line).trim_end_matches('.'));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// `ssh-ed25519 SHA256:…` from the line that `LogVerbose` adds.
fn offered_key(log: &str) -> Option<&str> {
    let line = log.lines().rfind(|line| line.starts_with("debug1:") && line.contains("Server host key: "))?;
    line.split_once("Server host key: ").map(|(_, key)| key.trim())
}

/// The key that a host, or its jump host, was taken at its word for: nobody knew it before.
pub(super) fn trusted(log: &str) -> Option<&str> {
    let is_new = log.lines().any(|line| line.starts_with("Warning: Permanently added"));
    is_new.then(|| offered_key(log).unwrap_or("one that this ssh does not show"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs of OpenSSH 9.2, as `ssh -E` wrote them.
    const CASES: &[(&str, ConnectKind, &str)] = &[
        (
            "debug1: sshconnect.c:verify_host_key():1477 (pid=7): Server host key: ssh-ed25519 SHA256:oJI78ff\r\n\
             No ED25519 host key is known for [127.0.0.1]:2299 and you have requested strict checking.\r\n\
             Host key verification failed.\r\n",
            ConnectKind::UnknownHostKey,
            "the host offered the key ssh-ed25519 SHA256:oJI78ff; No ED25519 host key is known for [127.0.0.1]:2299 \
             and you have requested strict checking; Host key verification failed",
        ),
        (
            "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
             @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n\
             @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
             IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
             Someone could be eavesdropping on you right now (man-in-the-middle attack)!\n\
             It is also possible that a host key has just been changed.\n\
             The fingerprint for the ED25519 key sent by the remote host is\nSHA256:oJI78ff.\n\
             Please contact your system administrator.\n\
             Add correct host key in /tmp/kh to get rid of this message.\n\
             Offending ED25519 key in /tmp/kh:1\n\
             Host key for [127.0.0.1]:2299 has changed and you have requested strict checking.\n\
             Host key verification failed.\n",
            ConnectKind::ChangedHostKey,
            "The fingerprint for the ED25519 key sent by the remote host is; SHA256:oJI78ff; Add correct host key in \
             /tmp/kh to get rid of this message; Offending ED25519 key in /tmp/kh:1; Host key for [127.0.0.1]:2299 has \
             changed and you have requested strict checking; Host key verification failed",
        ),
        (
            "Warning: Permanently added '[127.0.0.1]:2299' (ED25519) to the list of known hosts.\r\n\
             root@127.0.0.1: Permission denied (publickey,password,keyboard-interactive).\r\n",
            ConnectKind::Denied,
            "root@127.0.0.1: Permission denied (publickey,password,keyboard-interactive); nobody knew its key, one that this ssh \
             does not show, and ssh trusts it from now on",
        ),
        (
            "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\r\n",
            ConnectKind::Denied,
            "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures",
        ),
        (
            "ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n",
            ConnectKind::Unreachable,
            "connect to host 127.0.0.1 port 1: Connection refused",
        ),
        (
            "ssh: connect to host 203.0.113.9 port 22: Connection timed out\r\n",
            ConnectKind::Unreachable,
            "connect to host 203.0.113.9 port 22: Connection timed out",
        ),
        (
            "Connection timed out during banner exchange\r\nConnection to 203.0.113.9 port 22 timed out\r\n",
            ConnectKind::Unreachable,
            "Connection timed out during banner exchange; Connection to 203.0.113.9 port 22 timed out",
        ),
        (
            "ssh: connect to host 10.9.9.9 port 22: No route to host\r\n",
            ConnectKind::Unreachable,
            "connect to host 10.9.9.9 port 22: No route to host",
        ),
        (
            "ssh: connect to host 10.9.9.9 port 22: Network is unreachable\r\n",
            ConnectKind::Unreachable,
            "connect to host 10.9.9.9 port 22: Network is unreachable",
        ),
        (
            "ssh: Could not resolve hostname nosuch.invalid: Name or service not known\r\n",
            ConnectKind::UnknownName,
            "Could not resolve hostname nosuch.invalid: Name or service not known",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.1 port 22\r\n",
            ConnectKind::Other,
            "kex_exchange_identification: Connection closed by remote host; Connection closed by 10.0.0.1 port 22",
        ),
        ("", ConnectKind::Other, "ssh said nothing"),
    ];

    #[test]
    fn sshs_words_are_understood() {
        for (log, kind, why) in CASES {
            assert_eq!(read(log), Failure::new(*kind, *why), "{log}");
        }
    }

    #[test]
    fn a_key_that_was_taken_at_first_sight_is_named() {
        let offered = "debug1: sshconnect.c:verify_host_key():1477 (pid=7): Server host key: ssh-ed25519 SHA256:oJI78ff\r\n";
        let added = "Warning: Permanently added '10.0.0.1' (ED25519) to the list of known hosts.\r\n";
        assert_eq!(trusted(&format!("{offered}{added}")), Some("ssh-ed25519 SHA256:oJI78ff"));
        assert_eq!(trusted(added), Some("one that this ssh does not show"));
        assert_eq!(trusted(offered), None);
    }

    /// Logs of the jump host's ssh. What it says of the host behind it is none of its own troubles.
    #[test]
    fn a_dead_host_is_told_from_a_dead_jump_host() {
        use At::{Host, JumpHost};
        use ConnectKind::{Denied, Forbids, UnknownName, Unreachable};
        let failed =
            |reason: &str| format!("channel 0: open failed: {reason}\r\nstdio forwarding failed\r\n");
        for (log, kind, at, why) in [
            (
                failed("connect failed: Connection refused"),
                Unreachable,
                Host,
                "the jump host could not reach it: Connection refused",
            ),
            (
                failed("connect failed: No route to host"),
                Unreachable,
                Host,
                "the jump host could not reach it: No route to host",
            ),
            (
                failed("connect failed: Name or service not known"),
                UnknownName,
                Host,
                "the jump host could not reach it: Name or service not known",
            ),
            ("stdio forwarding failed\r\n".into(), Unreachable, Host, "the jump host could not reach it"),
            (
                failed("administratively prohibited: open failed"),
                Forbids,
                JumpHost,
                "it forwards no connection there: administratively prohibited",
            ),
            (
                "ssh: connect to host 10.0.0.9 port 22: No route to host\r\n".into(),
                Unreachable,
                JumpHost,
                "connect to host 10.0.0.9 port 22: No route to host",
            ),
            (
                "ops@10.0.0.9: Permission denied (publickey).\r\n".into(),
                Denied,
                JumpHost,
                "ops@10.0.0.9: Permission denied (publickey)",
            ),
        ] {
            assert_eq!(read_jump(&log), Failure { at, ..Failure::new(kind, why) }, "{log}");
        }
    }

    #[test]
    fn only_a_closed_door_is_knocked_at_again() {
        let busy: Vec<_> =
            CASES.iter().filter(|(log, ..)| read(log).is_busy()).map(|(.., why)| *why).collect();
        assert_eq!(busy.len(), 1);
        assert!(busy[0].starts_with("kex_exchange_identification"));
    }
}
