//! What to do about members' certificates: those that they serve, and those that only their hosts tell of.

use super::{
    advice::{is_on_others_host, list, names, title, warning},
    commands::{Commands, KUBEADM_RENEW},
    host::{Expired, HostState, Process},
    report::{Advice, EtcdReport, MemberReport},
};
use crate::pki::leaf::URGENT_DAYS;

/// Of what nothing renews, since it would end no later.
const AUTHORITY: &str = "and its authority with it; this tells more:";

/// What helps with a certificate.
#[derive(PartialEq)]
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

/// Certificates that have ended, those that have not begun, and those that soon end: each kind once, by who built the hosts.
pub(super) fn advise(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
    const CLOCKS: &str = "(rsadm preflight compares the clocks)";
    let soon = format!("will expire within {URGENT_DAYS} days");
    let ended = |m: &MemberReport| m.certificate_days.is_some_and(|d| d < 0);
    // In rustls' words.
    let early = |m: &MemberReport| m.error.as_ref().is_some_and(|e| e.to_string().contains("not valid yet"));
    let ends = |m: &MemberReport| m.certificate_days.is_some_and(|d| (0..=URGENT_DAYS).contains(&d));
    type Kind<'k> = (&'k dyn Fn(&MemberReport) -> bool, String, String);
    let kinds: [Kind<'_>; 3] = [
        (&ended, "has expired".into(), "have expired".into()),
        (&early, format!("has not begun {CLOCKS}"), format!("have not begun {CLOCKS}")),
        (&ends, soon.clone(), soon),
    ];
    let mut advice = Vec::new();
    for (concerns, of_one, of_several) in &kinds {
        for remedy in [Remedy::Renew, Remedy::Kubeadm, Remedy::Authority] {
            let those = report.members.iter().filter(|m| concerns(m) && Remedy::of(m) == remedy);
            let names = names(those);
            let text = match names.len() {
                0 => continue,
                1 => format!("the certificate that {} serves {of_one}", list(&names)),
                _ => format!("the certificates that {} serve {of_several}", list(&names)),
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
    // What it does not serve to clients ends unseen: that to its peers may be of another day.
    let unseen = report.members.iter().filter(|m| m.version.is_some() && !ended(m));
    advice.extend(unseen.filter_map(|m| match &m.host {
        Some(HostState::Seen(process)) => expired(&title(m), process, commands),
        _ => None,
    }));
    advice
}

/// A certificate of its own that has ended.
pub(super) fn expired(title: &str, process: &Process, commands: Commands<'_>) -> Option<Advice> {
    let Expired { file, on, with_authority } = process.expired.as_ref()?;
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
