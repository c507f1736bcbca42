//! A cluster as kubeadm leaves it: the same files and pods, and nothing that tells of rsadm.

use k8s_openapi::api::core::v1::Pod;

use super::{
    host::{FakeHost, failed},
    machine::Machine,
    state::State,
};
use crate::{
    host::{HostError, Output},
    layout,
    manifests::to_yaml,
    phases::etcd::upgrade::version_of,
};

const API_SERVER: &str = "kube-apiserver";

impl State {
    /// As if kubeadm had built what `up` has: no records, API servers that know the member beside them alone, and pods that
    /// are another with each other manifest.
    pub fn built_by_kubeadm(&mut self) {
        self.disaster = true;
        self.hang_up();
        self.machines.values_mut().for_each(Machine::power_off);
        let now = self.clock;
        for machine in self.machines.values_mut() {
            for path in [layout::RSADM_DIR, layout::KUBELET_REVISION, layout::CONTAINERD_REVISION] {
                machine.files.remove(path);
            }
            for name in ["etcd", API_SERVER, "kube-controller-manager", "kube-scheduler"] {
                machine.change_manifest(name, |pod| {
                    pod.metadata.uid = None;
                    pod.spec.iter_mut().flat_map(|s| &mut s.containers).for_each(|c| c.env = None);
                    set_flag(pod, "etcd-servers", &format!("https://127.0.0.1:{}", layout::ETCD_CLIENT_PORT));
                });
            }
            machine.power_on(now);
        }
        self.settle();
        self.disaster = false;
    }

    /// Whether an API server has a member to ask: one that lives, votes, and is among those it was started with.
    pub(super) fn has_etcd(&self, machine: &Machine) -> bool {
        self.etcd_of(machine).any(|m| !m.off && m.serves("etcd", self.clock) && self.is_voter(m))
    }

    /// Whether none of the members that it was started with is one any more: it has none even once all of them live.
    pub(super) fn is_orphaned(&self, machine: &Machine) -> bool {
        let matters = !self.disaster && !self.etcd.members.is_empty();
        matters && machine.process(API_SERVER).is_some() && !self.etcd_of(machine).any(|m| self.is_voter(m))
    }

    fn etcd_of<'s>(&'s self, machine: &'s Machine) -> impl Iterator<Item = &'s Machine> {
        let argv = machine.process(API_SERVER).map(|p| p.argv.as_slice()).unwrap_or_default();
        let servers = super::pods::flag(argv, "etcd-servers").unwrap_or_default();
        servers.split(',').filter_map(move |url| {
            let address = url.trim_start_matches("https://").split(':').next()?;
            match address {
                "127.0.0.1" => Some(machine),
                _ => self.machines.values().find(|m| m.address.to_string() == address),
            }
        })
    }

    fn is_voter(&self, machine: &Machine) -> bool {
        let own = machine.etcd_data().map(|data| data.member);
        self.etcd.members.iter().any(|m| Some(m.id) == own && !m.learner)
    }
}

impl Machine {
    fn change_manifest(&mut self, name: &str, change: impl FnOnce(&mut Pod)) -> Option<()> {
        let path = layout::manifest_of(name);
        let mut pod: Pod = serde_yaml::from_str(&self.files.text(&path)?).ok()?;
        change(&mut pod);
        self.files.put(&path, 0o600, to_yaml("pod", &pod).ok()?.as_bytes());
        Some(())
    }
}

/// A line with another in its place, where one of `lines` is it; those are old and new ones in turn.
fn edited(line: &str, lines: &[&str]) -> Option<String> {
    let said = line.trim_start().trim_start_matches("- ");
    let lead = &line[..line.len() - said.len()];
    match lines.chunks_exact(2).find(|pair| pair[0] == said) {
        Some([_, ""]) => None,
        Some([_, new]) => Some(format!("{lead}{new}\n")),
        _ => Some(format!("{line}\n")),
    }
}

fn set_flag(pod: &mut Pod, name: &str, value: &str) {
    let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for arg in containers.filter_map(|c| c.command.as_mut()).flatten() {
        if arg.starts_with(&format!("--{name}=")) {
            *arg = format!("--{name}={value}");
        }
    }
}

impl FakeHost {
    /// `set-etcd-image.sh`; `lines` are old and new ones in turn.
    pub(super) async fn set_etcd_image(&self, version: &str, lines: &[&str]) -> Result<Output, HostError> {
        let (path, kept) = (layout::ETCD_MANIFEST, layout::ETCD_MANIFEST_BEFORE);
        let version = version.trim_start_matches('v');
        let (found, copy) = self.look(|state, name| {
            let files = &state.machine(name).files;
            (files.text(path).unwrap_or_default(), files.text(kept))
        });
        let text = found.lines().filter_map(|line| edited(line, lines)).collect::<String>();
        let before = match text == found {
            true => copy,
            false => {
                self.effect(&format!("keep {path}"), |state, name| {
                    state.machine(name).files.put(kept, 0o600, found.as_bytes());
                })
                .await?;
                self.effect(&format!("write {path}"), |state, name| {
                    state.machine(name).files.put(path, 0o600, text.as_bytes());
                })
                .await?;
                Some(found)
            }
        };
        let serves = self.serves_as(version).await;
        let Some(before) = before else { return Ok(serves) };
        if serves.ok() {
            self.effect(&format!("remove {kept}"), |state, name| state.machine(name).files.remove(kept))
                .await?;
            return Ok(serves);
        }
        let was = before.lines().find_map(|line| version_of(line.trim().strip_prefix("image: ")?));
        self.effect("put the manifest of etcd back", |state, name| {
            let files = &mut state.machine(name).files;
            files.put(path, 0o600, before.as_bytes());
            files.remove(kept);
        })
        .await?;
        let was = was.map(|version| version.to_string()).unwrap_or_default();
        let back = self.serves_as(was.trim_start_matches('v')).await;
        let told =
            format!("etcd does not run as {version}; etcd has its manifest from before again, and serves");
        Ok(if back.ok() { failed(told) } else { back })
    }

    async fn serves_as(&self, version: &str) -> Output {
        self.until(|state, machine| {
            let runs = machine.etcd_version().filter(|_| machine.serves("etcd", state.clock));
            (runs.as_deref() == Some(version)).then_some(()).ok_or(format!("etcd does not run as {version}"))
        })
        .await
    }

    /// `set-etcd-servers.sh`.
    pub(super) async fn set_etcd_servers(&self, servers: &str, url: &str) -> Result<Output, HostError> {
        let changed = self
            .effect(&format!("point the API server at {servers}"), |state, name| {
                state.machine(name).change_manifest(API_SERVER, |pod| set_flag(pod, "etcd-servers", servers))
            })
            .await?;
        if changed.is_none() {
            return Ok(failed("the manifest has no --etcd-servers"));
        }
        Ok(self
            .until(|state, machine| {
                let process = machine.process(API_SERVER).ok_or("no API server runs")?;
                match super::pods::flag(&process.argv, "etcd-servers") == Some(servers) {
                    true => state.kubectl(&machine.name, Some(url)),
                    false => Err("the API server runs with others".to_owned()),
                }
            })
            .await)
    }
}
