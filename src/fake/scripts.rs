//! What our scripts (`exec/scripts/`, `observe/`) do to a machine, effect by effect, in their order.

use super::{
    facts,
    host::{FakeHost, failed},
    machine::Machine,
};
use crate::host::{HostError, Output};

mod cluster;
mod former;
mod programs;

/// Where `remember.sh` notes the cluster.
pub(super) const BEFORE: &str = "/var/lib/rsadm/before/cluster";

type Answer = Result<Output, HostError>;

impl FakeHost {
    pub(super) async fn script(&self, name: &str, args: &[String]) -> Answer {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match (name, &args[..]) {
            ("facts", _) => Ok(self.facts()),
            ("nodes", [url, _]) => Ok(self.nodes(url)),
            ("facts-and-nodes", [url, _]) => {
                let (mut all, nodes) = (self.facts(), self.nodes(url));
                all.stdout.extend(nodes.stdout);
                Ok(all)
            }
            ("lock", [_, _, "name" | "none"]) => Ok(Output::default()),
            ("lock", [holder, _, ..]) => Ok(self.lock(holder)),
            ("collect", _) => Ok(say("== nothing to say\n".into())),
            ("install", [name, url, _, target, members @ ..]) => {
                self.install(name, url, target, members).await
            }
            ("etcd-data", [folder, _]) => {
                self.effect(&format!("make {folder}"), |state, name| {
                    state.machine(name).files.folder(folder, 0o700);
                })
                .await?;
                Ok(Output::default())
            }
            ("pull", images) => self.pull(images).await,
            ("unit", [verb, unit, revision @ ..]) => self.unit(verb, unit, revision.first().copied()).await,
            ("sysctl", [modules, settings, _]) => self.sysctl(&[modules, settings]).await,
            ("await-stopped", [comm, _]) => Ok(self
                .until(|_, machine| match machine.processes().any(|(name, _)| facts::comm(name) == *comm) {
                    true => Err(format!("{comm} still runs")),
                    false => Ok(()),
                })
                .await),
            ("restore", args) => self.restore(args).await,
            ("set-aside", [data, aside]) => self.set_aside(data, aside).await,
            ("manifest-aside", [manifest, kept]) => self.set_manifest_aside(manifest, kept).await,
            ("await-process", [name, revision, _]) => Ok(self.await_process(name, revision).await),
            ("await-serving", [name, _, _]) => Ok(self.await_serving(name).await),
            ("set-etcd-servers", [servers, url, _]) => self.set_etcd_servers(servers, url).await,
            ("set-etcd-image", [version, _, _, lines @ ..]) => self.set_etcd_image(version, lines).await,
            ("keep", [name, folder]) => self.keep(name, folder).await,
            ("put-back", [_, folder, pods @ ..]) => self.put_back(folder, pods).await,
            ("api-ready", [url]) => Ok(self.look(|state, name| match state.kubectl(name, Some(url)) {
                Ok(()) => say("ok".into()),
                Err(why) => failed(why),
            })),
            ("await-api", [url, _]) => {
                Ok(self.until(|state, machine| state.kubectl(&machine.name, Some(url))).await)
            }
            ("join", [url, _, node]) => self.join(url, node).await,
            ("lost-data", [_]) => Ok(Output::default()),
            ("apply", [file, bundle, hash, _]) => self.apply(file, bundle, hash).await,
            ("mark", [node, _, managed, changes @ ..]) => self.mark(node, managed, changes).await,
            ("await-nodes", [_, nodes @ ..]) => Ok(self.await_nodes(nodes).await),
            ("rollout", [_, _, workloads @ ..]) => Ok(self.rollout(workloads).await),
            ("remember", [cluster, ..]) => self.remember(cluster).await,
            ("wipe", [cluster, folders @ ..]) => self.wipe(cluster, folders).await,
            _ => Ok(Output {
                status: 127,
                ..failed(format!("this world knows no script {name} with {} arguments", args.len()))
            }),
        }
    }

    fn lock(&self, holder: &str) -> Output {
        self.look(|state, name| {
            let lock = &mut state.machine(name).lock;
            match lock {
                Some(other) => Output { status: 75, stdout: format!("{other}\n").into_bytes(), ..failed("") },
                None => {
                    *lock = Some(holder.into());
                    Output::default()
                }
            }
        })
    }

    fn facts(&self) -> Output {
        self.look(|state, name| {
            let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
            let (clock, members, has_leader) = (state.clock, state.etcd.members.len(), state.has_quorum());
            let machine = state.machine(name);
            let etcd = (machine.serves("etcd", clock) && members > 0).then_some((members, has_leader));
            say(facts::render(machine, now, etcd))
        })
    }
}

fn say(text: String) -> Output {
    Output { stdout: text.into_bytes(), ..Output::default() }
}

fn disable(machine: &mut Machine, unit: &str) {
    machine.stop(unit);
    if let Some(unit) = machine.units.get_mut(unit) {
        unit.enabled = false;
    }
}
