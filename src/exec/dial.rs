//! Dialling ports from hosts (`dial.sh`), and what comes of it.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use futures::future::join_all;

use super::scripts;
use crate::{
    host::{Host, Op},
    phases::preflight::paths::Outcome,
};

/// How long one host may take to dial one port.
const LIMIT: Duration = Duration::from_secs(15);

/// How the script is told whom to dial.
pub(super) fn target(address: Ipv4Addr, port: u16) -> String {
    format!("{address}:{port}")
}

/// Reads what the script printed.
pub(super) fn outcomes(text: &str) -> BTreeMap<String, Outcome> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(target, said)| {
            let outcome = match said.split_once(' ').unwrap_or((said, "")) {
                ("open", _) => Outcome::Open,
                ("refused", _) => Outcome::Refused,
                ("filtered", _) => Outcome::Filtered,
                ("unreachable", why) => Outcome::Unreachable(why.to_owned()),
                _ => return None,
            };
            Some((target.to_owned(), outcome))
        })
        .collect()
}

/// Whether something listens at a port, as any of these hosts sees it: also while it is too busy to answer anybody. `None` where
/// none of them tells.
pub(super) async fn is_open(hosts: &[&Arc<dyn Host>], (address, port): (Ipv4Addr, u16)) -> Option<bool> {
    let target = &target(address, port);
    let dials = hosts.iter().map(|host| async move {
        let dial = Op::Script(scripts::DIAL, vec![target.clone()], LIMIT);
        let outputs = host.run(&[dial], false).await.unwrap_or_default();
        let outcome = outcomes(&outputs.first()?.text()).remove(target)?;
        Some(outcome == Outcome::Open)
    });
    join_all(dials).await.into_iter().flatten().reduce(|one, other| one || other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing;

    #[test]
    fn answers_are_read_by_target() {
        let read = outcomes(
            "10.0.0.1:2380 open\n10.0.0.2:2380 unreachable No route to host\nnoise\n10.0.0.3:6443 filtered\n10.0.0.3:1 refused\n",
        );
        assert_eq!(read["10.0.0.1:2380"], Outcome::Open);
        assert_eq!(read["10.0.0.2:2380"], Outcome::Unreachable("No route to host".into()));
        assert_eq!((&read["10.0.0.3:6443"], &read["10.0.0.3:1"]), (&Outcome::Filtered, &Outcome::Refused));
        assert_eq!(read.len(), 4);
    }

    #[tokio::test]
    async fn a_port_is_open_where_anybody_reaches_it() {
        for (seen, open) in [
            (&["refused", "open"][..], Some(true)),
            (&["", "open"], Some(true)),
            (&["filtered", "refused", ""], Some(false)),
            (&[""], None),
            (&[], None),
        ] {
            // Who is told nothing is lost.
            let sees = |outcome: &'static str| {
                testing::host("m1", move |_| match outcome {
                    "" => testing::lost("m1"),
                    _ => testing::says(0, &format!("10.0.0.3:2379 {outcome}\n")),
                })
            };
            let hosts: Vec<Arc<dyn Host>> = seen.iter().copied().map(sees).collect();
            let hosts: Vec<&Arc<dyn Host>> = hosts.iter().collect();
            assert_eq!(is_open(&hosts, ([10, 0, 0, 3].into(), 2379)).await, open, "{seen:?}");
        }
    }
}
