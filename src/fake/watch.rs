//! What is watched whatever else goes wrong: a leader of etcd hands over before it is stopped, and nobody serves while a
//! restore exchanges what is served.

use super::{
    machine::Machine,
    restore::{OLD, OVER, PLACED, TOKEN},
    state::State,
};
use crate::layout;

impl State {
    /// A leader that stops or leaves has handed over before, where another could take over. One that lost its power could
    /// not, and in a disaster nobody asks.
    pub(super) fn watch_leader(&mut self, leader: Option<u64>, voting: &[u64]) {
        let Some(leader) = leader.filter(|leader| !voting.contains(leader)) else { return };
        let is_its = |m: &&Machine| m.etcd_data().is_some_and(|data| data.member == leader);
        let Some(host) = self.machines.values().find(is_its).filter(|m| !m.off) else { return };
        if !voting.is_empty() && !self.disaster {
            let (host, after) = (host.name.clone(), self.after());
            self.violations
                .push(format!("{host} led etcd and was taken away without handing over, after: {after}"));
        }
    }

    /// From the moment when the first data is exchanged until the restore is over no API server runs anywhere: it would
    /// write to one of two clusters, and tell its clients of both.
    pub(super) fn watch_restore(&mut self) {
        let begun = |m: &&Machine| m.files.has(TOKEN) && (m.files.has(OLD) || m.files.has(PLACED));
        let tokens: Vec<String> =
            self.machines.values().filter(begun).filter_map(|m| m.files.text(TOKEN)).collect();
        if !tokens.iter().any(|token| !self.is_over(token)) {
            return;
        }
        let runs = |m: &&Machine| !m.off && m.process("kube-apiserver").is_some();
        if let Some(server) = self.machines.values().find(runs) {
            let (host, after) = (server.name.clone(), self.after());
            self.violations
                .push(format!("the API server of {host} runs in the middle of a restore, after: {after}"));
        }
    }

    /// A restore that has placed data ends when all members that it made agree, and not before.
    pub(super) fn watch_end(&mut self, token: &str) {
        let placed = |m: &Machine| m.files.has(PLACED) && m.files.text(TOKEN).as_deref() == Some(token);
        let agree = self.has_quorum() && self.etcd.members.iter().all(|m| self.is_live(m.id));
        if !agree && !self.is_over(token) && self.machines.values().any(placed) {
            let after = self.after();
            self.violations.push(format!("a restore was over before its members agreed, after: {after}"));
        }
    }

    /// Over for one host is over for all.
    fn is_over(&self, token: &str) -> bool {
        self.machines.values().any(|m| {
            let ended = m.files.text(layout::ENDED_RESTORES).unwrap_or_default();
            let marked = m.files.has(OVER) && m.files.text(TOKEN).as_deref() == Some(token);
            marked || ended.lines().any(|line| line == token)
        })
    }

    /// The last effect, in words.
    pub(super) fn after(&self) -> String {
        self.log.last().cloned().unwrap_or_default()
    }
}
