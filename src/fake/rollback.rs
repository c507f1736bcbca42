//! Manifests that are kept, replaced, and put back (`exec/scripts/{keep,put-back,await-serving}.sh`).

use super::{
    host::{FakeHost, failed},
    machine::Machine,
    pods,
};
use crate::{
    host::{HostError, Output},
    layout,
};

impl FakeHost {
    pub(super) async fn await_serving(&self, name: &str) -> Output {
        self.until(|state, machine| {
            let serves = runs_its_manifest(machine, name) && machine.serves(name, state.clock);
            serves.then_some(()).ok_or_else(|| format!("{name} does not listen"))
        })
        .await
    }

    pub(super) async fn keep(&self, name: &str, folder: &str) -> Result<Output, HostError> {
        self.effect(&format!("keep the manifest of {name}"), |state, host| {
            let machine = state.machine(host);
            let manifest = machine.files.read(&layout::manifest_of(name)).map(<[u8]>::to_vec);
            let kept = kept(folder, name);
            machine.files.remove(&kept);
            let others: Vec<String> =
                machine.files.below(layout::KEPT_DIR).map(|(path, _)| path.to_owned()).collect();
            let others = others.iter().filter(|path| !path.starts_with(folder) && *path != layout::KEPT_DIR);
            others.for_each(|path| machine.files.remove(path));
            if let Some(manifest) = manifest.filter(|_| runs_its_manifest(machine, name)) {
                machine.files.put(&kept, 0o600, &manifest);
            }
        })
        .await?;
        Ok(Output::default())
    }

    /// `pods` are names and ports in turn.
    pub(super) async fn put_back(&self, folder: &str, pods: &[&str]) -> Result<Output, HostError> {
        let mut told = String::new();
        for name in pods.iter().step_by(2) {
            let before = self.look(|state, host| {
                let clock = state.clock;
                let machine = state.machine(host);
                let manifest = machine.files.read(&layout::manifest_of(name)).map(<[u8]>::to_vec);
                let serves = runs_its_manifest(machine, name) && machine.serves(name, clock);
                let before = machine.files.read(&kept(folder, name)).map(<[u8]>::to_vec);
                before.filter(|before| !serves && manifest.as_ref() != Some(before))
            });
            let Some(before) = before else { continue };
            self.effect(&format!("put the manifest of {name} back"), |state, host| {
                state.machine(host).files.put(&layout::manifest_of(name), 0o600, &before);
            })
            .await?;
            let waited = self.await_serving(name).await;
            if !waited.ok() {
                return Ok(failed(format!("{name} does not serve again")));
            }
            told.push_str(&format!("{name} has its manifest from before again, and serves\n"));
        }
        self.effect("forget what was kept", |state, host| {
            state.machine(host).files.remove(layout::KEPT_DIR);
        })
        .await?;
        Ok(Output { stdout: told.into_bytes(), ..Output::default() })
    }
}

fn kept(folder: &str, name: &str) -> String {
    format!("{folder}/{name}.yaml")
}

fn runs_its_manifest(machine: &Machine, name: &str) -> bool {
    let path = layout::manifest_of(name);
    let wanted = machine
        .files
        .sha256(&path)
        .zip(machine.files.text(&path))
        .and_then(|(sha, text)| pods::read(sha, &text));
    let runs = machine.process(name).and_then(|p| p.revision.as_ref());
    wanted.is_some_and(|w| runs.is_some() && w.revision.as_ref() == runs)
}
