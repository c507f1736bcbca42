//! What scripts do through an API server: objects and nodes.

use super::{Answer, say};
use crate::{
    fake::{
        State,
        host::{FakeHost, failed},
    },
    host::Output,
    inventory::NodeName,
};

impl FakeHost {
    pub(super) fn nodes(&self, url: &str) -> Output {
        self.look(|state, name| {
            if let Err(why) = state.kubectl(name, Some(url)) {
                return failed(why);
            }
            let mut text = String::new();
            for (name, node) in &state.kube.nodes {
                let ready = if node.ready { "True" } else { "False" };
                text.push_str(&format!("node {name} {ready} {}\n", node.managed));
                node.address.iter().for_each(|a| text.push_str(&format!("address {name} {a}\n")));
                node.labels.iter().for_each(|(k, v)| text.push_str(&format!("label {name} {k}={v}\n")));
                node.taints.iter().for_each(|t| text.push_str(&format!("taint {name} {t}\n")));
            }
            state.kube.bundles.iter().for_each(|(k, v)| text.push_str(&format!("bundle {k} {v}\n")));
            state.kube.edited.iter().for_each(|k| text.push_str(&format!("edited {k}\n")));
            for (bundle, workload) in
                [("kube-proxy", "daemonset/kube-proxy"), ("coredns", "deployment/coredns")]
            {
                let ready = if state.kube.crashing.contains(workload) { 0 } else { 2 };
                if state.kube.bundles.contains_key(bundle) {
                    text.push_str(&format!(
                        "workload {workload} 1,2,1,<no value>,2,<no value>,{ready},<no value>\n"
                    ));
                }
            }
            state.kube.damaged.iter().for_each(|(k, v)| text.push_str(&format!("damaged {k} {v}\n")));
            say(text + "end\n")
        })
    }

    pub(super) async fn join(&self, url: &str, node: &str) -> Answer {
        let waited = self.until(|state, machine| state.kubelet_reaches(machine, url)).await;
        let is_there = self.look(|state, _| state.kube.nodes.contains_key(&NodeName::new(node)));
        if !waited.ok() || is_there {
            return Ok(waited);
        }
        let started = self
            .effect("restart kubelet", |state, name| {
                let now = state.clock;
                state.machine(name).restart("kubelet", now)
            })
            .await?;
        Ok(started.map_or_else(failed, |()| waited))
    }

    pub(super) async fn apply(&self, file: &str, bundle: &str, hash: &str) -> Answer {
        let waited = self.until(|state, machine| state.kubectl(&machine.name, None)).await;
        if !waited.ok() {
            return Ok(waited);
        }
        let there = self
            .effect(&format!("apply {bundle}"), |state, name| {
                let sha = state.machine(name).files.sha256(file).map(str::to_owned);
                state.machine(name).files.remove(file);
                sha.map(|sha| drop(state.kube.objects.insert(bundle.to_owned(), sha))).is_some()
            })
            .await?;
        if !there {
            return Ok(failed(format!("{file}: no such file")));
        }
        self.effect(&format!("record bundle {bundle}"), |state, _| {
            state.kube.bundles.insert(bundle.into(), hash.into());
            state.kube.damaged.remove(bundle);
        })
        .await?;
        Ok(Output::default())
    }

    pub(super) async fn mark(&self, node: &str, managed: &str, changes: &[&str]) -> Answer {
        let node = NodeName::new(node);
        let waited = self
            .until(|state, machine| {
                state.kubectl(&machine.name, None)?;
                state
                    .kube
                    .nodes
                    .contains_key(&node)
                    .then_some(())
                    .ok_or_else(|| format!("nodes \"{node}\" not found"))
            })
            .await;
        if !waited.ok() {
            return Ok(waited);
        }
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let middle = changes.iter().position(|c| *c == "--").unwrap_or(changes.len());
        let (labels, taints) =
            (words(&changes[..middle]), words(changes.get(middle + 1..).unwrap_or_default()));
        let mark = |labels: Vec<String>, taints: Vec<String>, managed: Option<&str>| {
            let managed = managed.map(str::to_owned);
            let node = node.clone();
            move |state: &mut State, _: &NodeName| {
                let fact = state.kube.nodes.entry(node).or_default();
                let managed = managed.unwrap_or_else(|| fact.managed.clone());
                fact.mark(&labels, &taints, &managed);
            }
        };
        let (gone, wanted): (Vec<String>, Vec<String>) = taints.into_iter().partition(|t| t.ends_with('-'));
        for taints in std::iter::once(wanted).chain(gone.into_iter().map(|t| vec![t])) {
            if !taints.is_empty() {
                self.effect(&format!("taint {node} {}", taints.join(" ")), mark(vec![], taints, None))
                    .await?;
            }
        }
        self.effect(&format!("label {node}"), mark(labels, vec![], Some(managed))).await?;
        Ok(Output::default())
    }

    pub(super) async fn await_nodes(&self, nodes: &[&str]) -> Output {
        self.until(|state, machine| {
            state.kubectl(&machine.name, None)?;
            let ready = |name: &&&str| state.kube.nodes.get(&NodeName::new(**name)).is_some_and(|n| n.ready);
            match nodes.iter().find(|n| !ready(n)) {
                None => Ok(()),
                Some(name) => Err(format!("{name} is not Ready")),
            }
        })
        .await
    }

    pub(super) async fn rollout(&self, workloads: &[&str]) -> Output {
        self.until(|state, machine| {
            state.kubectl(&machine.name, None)?;
            match workloads.iter().find(|name| state.kube.crashing.contains(**name)) {
                Some(name) => Err(format!("{name} is not rolled out")),
                None => Ok(()),
            }
        })
        .await
    }
}
