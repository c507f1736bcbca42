//! What to do about members' certificates: those that they serve, and those that only their hosts tell of.

use super::{
    advice::{is_on_others_host, list, names, title, warning},
    commands::{Commands, KUBEADM_RENEW},
    host::{Expired, HostState, Process},
    report::{Advice, EtcdReport, MemberReport, Trouble},
};
use crate::{
    etcd::Cause,
    pki::leaf::{URGENT_DAYS, is_urgent},
};

/// Of what nothing renews, since it would end no later.
const AUTHORITY: &str = "and its authority with it; this tells more:";

/// To whom a certificate is served, as it goes on after "serves".
const WHOM: [&str; 3] = ["", " to clients", " to other members"];

const REMEDIES: [Remedy; 3] = [Remedy::Renew, Remedy::Kubeadm, Remedy::Authority];

/// What helps with a certificate.
#[derive(Clone, Copy, PartialEq)]
enum Remedy {
    Renew,
    Kubeadm,
    Authority,
}

impl Remedy {
    fn of(member: &MemberReport) -> Self {
        match member.with_authority {
            true => Self::Authority,
            false if is_on_others_host(member) => Self::Kubeadm,
            false => Self::Renew,
        }
    }
}

/// What is so of a certificate that a member serves.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Ended,
    Early,
    Ends,
}

impl State {
    /// Of one with so many days left.
    fn is_of(self, days: Option<i64>) -> bool {
        match self {
            Self::Ended => days.is_some_and(|d| d < 0),
            Self::Early => false,
            Self::Ends => days.is_some_and(|d| d >= 0 && is_urgent(d)),
        }
    }

    /// To whom a member serves what is in this state, of [`WHOM`]: to all, or to clients or other members alone. `None` where
    /// the one that ends first is in another, or its host has told the file's name.
    fn to(self, member: &MemberReport) -> Option<&'static str> {
        let (clients, peers) = (member.certificate_days, member.peer_certificate_days);
        match (self.is_of(clients), self.is_of(peers)) {
            _ if self == Self::Early => {
                let early = Cause::Certificate { early: true };
                matches!(&member.error, Some(Trouble::Silent(s)) if s.cause == early).then_some(WHOM[0])
            }
            _ if !self.is_of(member.days_left()) => None,
            (true, false) if peers.is_some() => Some(WHOM[1]),
            (true, _) => Some(WHOM[0]),
            (false, _) if self == Self::Ended && has_expired(member) => None,
            (false, _) => Some(WHOM[2]),
        }
    }

    fn words(self, of_several: bool) -> String {
        let has = if of_several { "have" } else { "has" };
        match self {
            Self::Ended => format!("{has} expired"),
            Self::Early => format!("{has} not begun (rsadm preflight compares the clocks)"),
            Self::Ends => format!("will expire within {URGENT_DAYS} days"),
        }
    }
}

/// Certificates that have ended, those that have not begun, and those that soon end: each kind once, by who built the hosts.
pub(super) fn advise(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
    let mut advice = Vec::new();
    for state in [State::Ended, State::Early, State::Ends] {
        let kinds = WHOM.iter().flat_map(|to| REMEDIES.map(|remedy| (*to, remedy)));
        for (to, remedy) in kinds {
            let those = report.members.iter().filter(|m| state.to(m) == Some(to) && Remedy::of(m) == remedy);
            let names = names(those);
            let text = match names.len() {
                0 => continue,
                1 => format!("the certificate that {} serves{to} {}", list(&names), state.words(false)),
                _ => format!("the certificates that {} serve{to} {}", list(&names), state.words(true)),
            };
            advice.push(match remedy {
                Remedy::Renew => {
                    warning(format!("{text}; this renews what ends soon, with or without a quorum:"))
                        .with(commands.renew())
                }
                Remedy::Kubeadm => {
                    warning(format!("{text}; on a host that kubeadm built, this renews what is there:"))
                        .with(KUBEADM_RENEW)
                }
                Remedy::Authority => warning(format!("{text}, {AUTHORITY}")).with(commands.certificates()),
            });
        }
    }
    // What no handshake has shown: its host knows its files.
    let unseen =
        report.members.iter().filter(|m| m.version.is_some() && !State::Ended.is_of(m.certificate_days));
    advice.extend(unseen.filter_map(|m| match &m.host {
        Some(HostState::Seen(process)) => expired(&title(m), process, commands),
        _ => None,
    }));
    advice
}

/// A certificate of its own that has ended.
pub(super) fn expired(title: &str, process: &Process, commands: Commands<'_>) -> Option<Advice> {
    let Expired { file, on, with_authority } = process.expired.as_deref()?;
    let text = format!("the certificate {file} of etcd on {title} has expired on {on}");
    Some(match process.is_of_others() {
        _ if *with_authority => warning(format!("{text}, {AUTHORITY}")).with(commands.certificates()),
        true => {
            warning(format!("{text}; on that host, which kubeadm built, this renews it:")).with(KUBEADM_RENEW)
        }
        false => warning(format!("{text}; this renews it:")).with(commands.renew()),
    })
}

/// True where nobody accepts it any more.
pub(super) fn has_expired(member: &MemberReport) -> bool {
    matches!(&member.host, Some(HostState::Seen(Process { expired: Some(_), .. })))
}
