//! What a host does of a restore (`exec/scripts/restore.sh`), effect by effect.

use super::{
    etcd::{Data, Listed},
    facts,
    files::Entry,
    host::{FakeHost, failed},
    machine::Machine,
    state::State,
};
use crate::{
    host::{HostError, Output},
    inventory::NodeName,
    layout,
    plan::sha256,
};

const STATE: &str = "/var/lib/rsadm/restore";
const SNAPSHOT: &str = "/var/lib/rsadm/restore/snapshot.db";
pub(super) const TOKEN: &str = "/var/lib/rsadm/restore/token";

type Answer = Result<Output, HostError>;

impl FakeHost {
    pub(super) async fn restore(&self, args: &[&str]) -> Answer {
        match args {
            ["begin", token] => {
                if !self.has(TOKEN) {
                    self.change("begin a restore", |m| m.files.put(TOKEN, 0o600, token.as_bytes())).await?;
                }
                Ok(say(&self.text(TOKEN)))
            }
            ["under-way"] => Ok(say(&self.text(TOKEN))),
            ["fence", name] => self.fence(name).await,
            ["unfence", name] => {
                if self.has(&waiting(name)) {
                    self.change(&format!("bring {name} back"), |m| {
                        carry(m, &waiting(name), &layout::manifest_of(name));
                    })
                    .await?;
                }
                Ok(say(if self.has(&layout::manifest_of(name)) { "here" } else { "" }))
            }
            ["has", sha] => Ok(say(if self.sha(SNAPSHOT).as_deref() == Some(*sha) { "yes" } else { "no" })),
            ["receive", sha] => self.receive(sha).await,
            ["place", _, url, all, token, _] => self.place(url, all, token).await,
            ["relist"] => {
                self.change("ask anew", |_| ()).await?;
                Ok(Output::default())
            }
            ["end"] => {
                self.change("forget the restore", |m| m.files.remove(STATE)).await?;
                Ok(Output::default())
            }
            _ => Ok(failed(format!("this world restores nothing with {args:?}"))),
        }
    }

    async fn fence(&self, name: &str) -> Answer {
        if self.has(&layout::manifest_of(name)) {
            self.change(&format!("take {name} away"), |m| {
                carry(m, &layout::manifest_of(name), &waiting(name));
            })
            .await?;
        }
        let comm = facts::comm(name);
        Ok(self
            .until(|_, machine| match machine.processes().any(|(n, _)| facts::comm(n) == comm) {
                true => Err(format!("{name} still runs")),
                false => Ok(()),
            })
            .await)
    }

    async fn receive(&self, sha: &str) -> Answer {
        self.change("put the snapshot together", |m| {
            let pieces: Vec<String> = m
                .files
                .below(STATE)
                .map(|(path, _)| path.to_owned())
                .filter(|p| p.contains("/piece."))
                .collect();
            let whole: Vec<u8> = pieces.iter().filter_map(|p| m.files.read(p)).flatten().copied().collect();
            pieces.iter().for_each(|p| m.files.remove(p));
            m.files.put(SNAPSHOT, 0o600, &whole);
        })
        .await?;
        match self.sha(SNAPSHOT).as_deref() == Some(sha) {
            true => Ok(Output::default()),
            false => Ok(failed("the snapshot arrived with another checksum")),
        }
    }

    /// The old data goes aside, then the new is there: two effects.
    async fn place(&self, url: &str, all: &str, token: &str) -> Answer {
        let placed = format!("{STATE}/placed");
        if self.has(&placed) {
            return Ok(Output::default());
        }
        if self.has(Data::PATH) {
            let aside = format!("{}/etcd-before-{token}/member", layout::ASIDE_DIR);
            self.change("set data aside", |m| carry(m, Data::PATH, &aside)).await?;
        }
        self.effect("place the restored data", |state, name| {
            let data = state.restored(url, all, token);
            let machine = state.machine(name);
            machine.files.put(Data::PATH, 0o700, &data);
            machine.files.put(&placed, 0o600, b"");
        })
        .await?;
        Ok(Output::default())
    }

    async fn change(&self, doing: &str, change: impl FnOnce(&mut Machine)) -> Result<(), HostError> {
        self.effect(doing, |state: &mut State, name: &NodeName| change(state.machine(name))).await
    }

    fn has(&self, path: &str) -> bool {
        self.look(|state, name| state.machine(name).files.has(path))
    }

    fn text(&self, path: &str) -> String {
        self.look(|state, name| state.machine(name).files.text(path)).unwrap_or_default()
    }

    fn sha(&self, path: &str) -> Option<String> {
        self.look(|state, name| state.machine(name).files.sha256(path).map(str::to_owned))
    }
}

impl State {
    /// The data of a member of the restored cluster; all members know it from the start.
    fn restored(&mut self, url: &str, all: &str, token: &str) -> Vec<u8> {
        let id = |text: &str| u64::from_str_radix(&sha256(text.as_bytes())[..16], 16).unwrap_or(1);
        let member = |url: &str| id(&format!("{url} {token}"));
        let listed = |(name, url): (&str, &str)| Listed {
            id: member(url),
            name: name.to_owned(),
            peer_url: url.to_owned(),
            learner: false,
            started: true,
        };
        self.etcd.restored(id(all), all.split(',').filter_map(|m| m.split_once('=')).map(listed).collect());
        serde_json::to_vec(&Data { cluster: id(all), member: member(url) }).unwrap_or_default()
    }
}

/// Where a manifest waits out of the kubelet's sight.
fn waiting(name: &str) -> String {
    format!("{STATE}/manifests/{name}.yaml")
}

fn carry(machine: &mut Machine, from: &str, to: &str) {
    let mode = match machine.files.resolve(from) {
        Some(Entry::File { mode, .. }) => *mode,
        _ => return,
    };
    if let Some(data) = machine.files.read(from).map(<[u8]>::to_vec) {
        machine.files.put(to, mode, &data);
        machine.files.remove(from);
    }
}

fn say(text: &str) -> Output {
    Output { stdout: text.as_bytes().to_vec(), ..Output::default() }
}
