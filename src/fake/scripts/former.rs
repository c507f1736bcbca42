//! What scripts take off a host, and what they keep of it.

use super::{Answer, BEFORE, disable};
use crate::{
    fake::host::{FakeHost, failed},
    host::Output,
    layout,
};

impl FakeHost {
    pub(super) async fn set_aside(&self, data: &str, aside: &str) -> Answer {
        self.effect("set data aside", |state, name| {
            let files = &mut state.machine(name).files;
            let from = format!("{data}/member");
            let Some(bytes) = files.read(&from).map(<[u8]>::to_vec) else { return };
            let to = (1..).map(|n| format!("{aside}/etcd-{n}/member")).find(|to| !files.has(to));
            files.put(&to.unwrap_or_default(), 0o700, &bytes);
            files.remove(&from);
        })
        .await?;
        Ok(Output::default())
    }

    pub(super) async fn set_manifest_aside(&self, manifest: &str, kept: &str) -> Answer {
        self.effect(&format!("keep {manifest}"), |state, name| {
            let files = &mut state.machine(name).files;
            let found = files.text(manifest).filter(|text| !text.contains(layout::REVISION_VARIABLE));
            found.into_iter().for_each(|text| files.put(kept, 0o600, text.as_bytes()));
        })
        .await?;
        self.effect(&format!("remove {manifest}"), |state, name| state.machine(name).files.remove(manifest))
            .await?;
        Ok(Output::default())
    }

    pub(super) async fn remember(&self, cluster: &str) -> Answer {
        self.effect("remember", |state, name| {
            state.machine(name).files.put(BEFORE, 0o600, cluster.as_bytes());
        })
        .await?;
        Ok(Output::default())
    }

    pub(super) async fn wipe(&self, cluster: &str, folders: &[&str]) -> Answer {
        let identity = self.look(|state, name| state.machine(name).files.text(layout::IDENTITY));
        if identity.is_some_and(|text| !text.contains(&format!("\"cluster\":\"{cluster}\""))) {
            return Ok(failed("this host belongs to another cluster"));
        }
        let record = format!("{}/containerd", layout::INSTALLED);
        let runtime = self.look(|state, name| state.machine(name).files.text(&record).is_some());
        let mut parts = folders.split(|word| *word == "--");
        let (mut folders, of_runtime) = (parts.next().unwrap_or_default().to_vec(), parts.next());
        folders.extend(of_runtime.filter(|_| runtime).unwrap_or_default());
        self.effect("wipe: stop kubelet", |state, name| disable(state.machine(name), "kubelet")).await?;
        self.effect("wipe: kill containers", |state, name| {
            let machine = state.machine(name);
            if machine.has_containerd() {
                machine.kill_pods();
                machine.images.clear();
            }
        })
        .await?;
        for unit in ["containerd", "rsadm-network"] {
            if unit != "containerd" || runtime {
                self.effect(&format!("wipe: stop {unit}"), |state, name| disable(state.machine(name), unit))
                    .await?;
            }
        }
        self.effect("wipe: programs", |state, name| {
            let files = &mut state.machine(name).files;
            let records: Vec<String> =
                files.below(layout::INSTALLED).filter_map(|(path, _)| files.text(path)).collect();
            let places = records.iter().flat_map(|r| r.lines().skip(1)).filter_map(|l| l.split_once(' '));
            for (_, place) in places {
                files.remove(place);
            }
        })
        .await?;
        for path in folders.iter().chain(&[layout::RSADM_DIR]) {
            self.effect(&format!("wipe: {path}"), |state, name| {
                let machine = state.machine(name);
                machine.files.remove(path);
                machine.units.retain(|_, u| u.enabled || u.process.is_some());
            })
            .await?;
        }
        Ok(Output::default())
    }
}
