//! What our scripts (`exec/scripts/`, `observe/`) do to a machine, effect by effect, in their order.

use super::{
    facts,
    host::{FakeHost, failed},
    machine::{Machine, lines},
};
use crate::{
    hash::sha256,
    host::{HostError, Output},
    inventory::NodeName,
    layout,
};

/// Where `remember.sh` notes the cluster.
pub(super) const BEFORE: &str = "/var/lib/rsadm/before/cluster";

type Answer = Result<Output, HostError>;

impl FakeHost {
    pub(super) async fn script(&self, name: &str, args: &[String]) -> Answer {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match (name, &args[..]) {
            ("facts", _) => Ok(self.facts()),
            ("nodes", [url]) => Ok(self.nodes(url)),
            ("facts-and-nodes", [url]) => {
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
            ("apply", [file, bundle, hash]) => self.apply(file, bundle, hash).await,
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

    fn nodes(&self, url: &str) -> Output {
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

    async fn install(&self, program: &str, url: &str, target: &str, members: &[&str]) -> Answer {
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

    async fn pull(&self, images: &[&str]) -> Answer {
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

    async fn unit(&self, verb: &str, unit: &str, revision: Option<&str>) -> Answer {
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

    async fn sysctl(&self, texts: &[&str]) -> Answer {
        self.effect("apply kernel settings", |state, name| {
            state.machine(name).kernel.extend(texts.iter().flat_map(|text| lines(text)));
        })
        .await?;
        Ok(Output::default())
    }

    async fn await_process(&self, name: &str, revision: &str) -> Output {
        self.until(|_, machine| {
            let mut all = machine.processes();
            let runs = all.any(|(n, p)| n == name && p.revision.as_deref() == Some(revision));
            runs.then_some(()).ok_or_else(|| format!("{name} did not start with its new files"))
        })
        .await
    }

    async fn join(&self, url: &str, node: &str) -> Answer {
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

    async fn apply(&self, file: &str, bundle: &str, hash: &str) -> Answer {
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

    async fn mark(&self, node: &str, managed: &str, changes: &[&str]) -> Answer {
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
            move |state: &mut super::State, _: &NodeName| {
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

    async fn await_nodes(&self, nodes: &[&str]) -> Output {
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

    async fn rollout(&self, workloads: &[&str]) -> Output {
        self.until(|state, machine| {
            state.kubectl(&machine.name, None)?;
            match workloads.iter().find(|name| state.kube.crashing.contains(**name)) {
                Some(name) => Err(format!("{name} is not rolled out")),
                None => Ok(()),
            }
        })
        .await
    }

    async fn set_aside(&self, data: &str, aside: &str) -> Answer {
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

    async fn set_manifest_aside(&self, manifest: &str, kept: &str) -> Answer {
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

    async fn remember(&self, cluster: &str) -> Answer {
        self.effect("remember", |state, name| {
            state.machine(name).files.put(BEFORE, 0o600, cluster.as_bytes());
        })
        .await?;
        Ok(Output::default())
    }

    async fn wipe(&self, cluster: &str, folders: &[&str]) -> Answer {
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

fn disable(machine: &mut Machine, unit: &str) {
    machine.stop(unit);
    if let Some(unit) = machine.units.get_mut(unit) {
        unit.enabled = false;
    }
}

fn say(text: String) -> Output {
    Output { stdout: text.into_bytes(), ..Output::default() }
}
