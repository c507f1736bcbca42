//! What scripts do to a host's programs: install them, fetch images, start them and wait for them.

use super::{Answer, disable};
use crate::{
    fake::{
        host::{FakeHost, failed},
        machine::lines,
    },
    hash::sha256,
    host::Output,
    layout,
};

impl FakeHost {
    pub(super) async fn install(&self, program: &str, url: &str, target: &str, members: &[&str]) -> Answer {
        if self.look(|state, _| state.unavailable.iter().any(|u| u == url)) {
            return Ok(failed(format!("could not fetch {url}")));
        }
        let places: Vec<String> = match members {
            [] => vec![target.to_owned()],
            members => {
                members.iter().map(|m| format!("{target}/{}", m.rsplit('/').next().unwrap_or(m))).collect()
            }
        };
        let mut record = format!("{url}\n");
        for place in &places {
            let bytes = format!("{url} {place}");
            record.push_str(&format!("{} {place}\n", sha256(bytes.as_bytes())));
            self.effect(&format!("place {place}"), |state, name| {
                state.machine(name).files.put(place, 0o755, bytes.as_bytes());
            })
            .await?;
        }
        self.effect(&format!("record {program}"), |state, name| {
            let path = format!("{}/{program}", layout::INSTALLED);
            state.machine(name).files.put(&path, 0o644, record.as_bytes());
        })
        .await?;
        Ok(Output::default())
    }

    pub(super) async fn pull(&self, images: &[&str]) -> Answer {
        for image in images {
            let waited = self
                .until(|_, machine| machine.has_containerd().then_some(()).ok_or("no containerd".into()))
                .await;
            if !waited.ok() {
                return Ok(waited);
            }
            self.effect(&format!("pull {image}"), |state, name| {
                state.machine(name).images.insert((*image).to_owned())
            })
            .await?;
        }
        Ok(Output::default())
    }

    pub(super) async fn unit(&self, verb: &str, unit: &str, revision: Option<&str>) -> Answer {
        if verb == "disable" {
            self.effect(&format!("disable {unit}"), |state, name| disable(state.machine(name), unit)).await?;
            return Ok(Output::default());
        }
        self.effect(&format!("enable {unit}"), |state, name| {
            state.machine(name).units.entry(unit.into()).or_default().enabled = true;
        })
        .await?;
        let started = self
            .effect(&format!("restart {unit}"), |state, name| {
                let now = state.clock;
                state.machine(name).restart(unit, now)
            })
            .await?;
        if let Err(why) = started {
            return Ok(failed(why));
        }
        let runs =
            self.look(|state, name| state.machine(name).process(unit).and_then(|p| p.revision.clone()));
        match revision {
            Some(wanted) if runs.as_deref() != Some(wanted) => {
                Ok(failed(format!("{unit} did not start with its new files")))
            }
            _ => Ok(Output::default()),
        }
    }

    pub(super) async fn sysctl(&self, texts: &[&str]) -> Answer {
        self.effect("apply kernel settings", |state, name| {
            state.machine(name).kernel.extend(texts.iter().flat_map(|text| lines(text)));
        })
        .await?;
        Ok(Output::default())
    }

    pub(super) async fn await_process(&self, name: &str, revision: &str) -> Output {
        self.until(|_, machine| {
            let mut all = machine.processes();
            let runs = all.any(|(n, p)| n == name && p.revision.as_deref() == Some(revision));
            runs.then_some(()).ok_or_else(|| format!("{name} did not start with its new files"))
        })
        .await
    }
}
