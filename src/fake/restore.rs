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
    hash::sha256,
    host::{HostError, Output},
    inventory::NodeName,
    layout,
};

const STATE: &str = "/var/lib/rsadm/restore";
const SNAPSHOT: &str = "/var/lib/rsadm/restore/snapshot.db";
pub(super) const TOKEN: &str = "/var/lib/rsadm/restore/token";
pub(super) const OVER: &str = "/var/lib/rsadm/restore/over";
pub(super) const WAITING: &str = "/var/lib/rsadm/restore/manifests";
const MEMBERS: &str = "/var/lib/rsadm/restore/members";
const BARE: &str = "/var/lib/rsadm/restore/bare";
pub(super) const PLACED: &str = "/var/lib/rsadm/restore/placed";
/// Where the old data went.
pub(super) const OLD: &str = "/var/lib/rsadm/restore/old";
/// Once it is over nothing of this is done again.
const CHANGES: [&str; 5] = ["begin", "fence", "receive", "place", "roll-back"];

type Answer = Result<Output, HostError>;

impl FakeHost {
    pub(super) async fn restore(&self, args: &[&str]) -> Answer {
        if args.first().is_some_and(|verb| CHANGES.contains(verb)) && self.has(OVER) {
            return Ok(failed("that restore is over, and only tidied up"));
        }
        match args {
            ["begin", token, targets @ ..] => {
                let manifests = ["etcd", "kube-apiserver"].map(layout::manifest_of);
                let has_any = self.has(Data::PATH)
                    || self.has(layout::IDENTITY)
                    || manifests.iter().any(|path| self.has(path));
                if !self.has(TOKEN) && !has_any {
                    self.change("note that it was bare", |m| m.files.put(BARE, 0o600, b"")).await?;
                }
                if !self.has(TOKEN) {
                    let targets = targets.join(" ");
                    self.change("note who is to have members", |m| {
                        m.files.put(MEMBERS, 0o600, targets.as_bytes());
                    })
                    .await?;
                    self.change("begin a restore", |m| m.files.put(TOKEN, 0o600, token.as_bytes())).await?;
                }
                Ok(say(&self.text(TOKEN)))
            }
            ["under-way"] => Ok(say(&self.remembered())),
            ["fence", name] => self.fence(name).await,
            ["unfence", name] => self.unfence(name).await,
            ["over", token, undone @ ..] => self.over(token, undone).await,
            ["ended", token, undone @ ..] => self.note_ended(token, undone).await.map(|()| Output::default()),
            ["settle"] => self.settle().await,
            ["undo"] => self.undo().await,
            ["has", sha] => Ok(say(if self.sha(SNAPSHOT).as_deref() == Some(*sha) { "yes" } else { "no" })),
            ["room", sha] => self.room(sha).await,
            ["receive", sha] => self.receive(sha).await,
            ["place", _, url, all, token, bump] => self.place(url, all, token, bump).await,
            ["was"] => Ok(Output::default()),
            ["relist"] => {
                self.change("ask anew", |_| ()).await?;
                Ok(Output::default())
            }
            ["roll-back"] => self.roll_back_restore().await,
            ["end"] => self.end().await,
            _ => Ok(failed(format!("this world restores nothing with {args:?}"))),
        }
    }

    fn remembered(&self) -> String {
        let mut text = String::new();
        if self.has(TOKEN) {
            text.push_str(&format!("token {}\nmembers {}\n", self.text(TOKEN), self.text(MEMBERS)));
        }
        for (path, word) in [(PLACED, "placed\n"), (BARE, "bare\n"), (OVER, "over\n")] {
            text.push_str(if self.has(path) { word } else { "" });
        }
        self.text(layout::ENDED_RESTORES)
            .lines()
            .for_each(|token| text.push_str(&format!("ended {token}\n")));
        text
    }

    async fn unfence(&self, name: &str) -> Answer {
        if self.has(&waiting(name)) {
            self.change(&format!("bring {name} back"), |m| {
                carry(m, &waiting(name), &layout::manifest_of(name));
            })
            .await?;
        }
        Ok(say(if self.has(&layout::manifest_of(name)) { "here" } else { "" }))
    }

    /// Two effects: what outlives the restore, then its own mark.
    async fn over(&self, token: &str, undone: &[&str]) -> Answer {
        if self.text(TOKEN) != token {
            return Ok(Output::default());
        }
        self.note_ended(token, undone).await?;
        if !self.has(OVER) {
            let how = undone.concat();
            self.change("mark it as over", |m| m.files.put(OVER, 0o600, how.as_bytes())).await?;
        }
        Ok(Output::default())
    }

    async fn note_ended(&self, token: &str, undone: &[&str]) -> Result<(), HostError> {
        if self.text(TOKEN) != token {
            return Ok(());
        }
        self.look(|state, _| state.watch_end(token));
        let how: Vec<&str> = [token].iter().chain(undone).copied().collect();
        let (how, ended) = (how.join(" "), self.text(layout::ENDED_RESTORES));
        if ended.lines().any(|line| line == how) {
            return Ok(());
        }
        let ended = format!("{ended}{how}\n");
        self.change("note that it is over", |m| m.files.put(layout::ENDED_RESTORES, 0o600, ended.as_bytes()))
            .await
    }

    /// What it missed of a restore that was rolled back.
    async fn undo(&self) -> Answer {
        if self.text(OVER) != "undone" {
            for name in ["kube-apiserver", "etcd"] {
                self.fence(name).await?;
            }
            self.roll_back_restore().await?;
        }
        self.unfence("etcd").await?;
        self.unfence("kube-apiserver").await
    }

    /// What still waits: the API server starts, and etcd's manifest goes aside.
    async fn end(&self) -> Answer {
        self.unfence("kube-apiserver").await?;
        let (etcd, kept) = (waiting("etcd"), format!("{}/manifests/etcd.yaml", layout::ASIDE_DIR));
        let waits = self.has(&etcd);
        if waits {
            self.change("set etcd's manifest aside", |m| carry(m, &etcd, &kept)).await?;
        }
        self.change("forget the restore", |m| m.files.remove(STATE)).await?;
        Ok(say(if waits { &kept } else { "" }))
    }

    async fn settle(&self) -> Answer {
        let has_no_member = !self.has(Data::PATH) && !self.has(&waiting("etcd"));
        if !(self.has(OVER) || self.has(PLACED) || has_no_member) {
            return Ok(Output::default());
        }
        self.unfence("etcd").await?;
        self.unfence("kube-apiserver").await
    }

    /// The new data goes aside, the old comes back.
    async fn roll_back_restore(&self) -> Answer {
        let old = self.text(OLD);
        if !old.is_empty() {
            let fenced = self.fence("etcd").await?;
            if !fenced.ok() {
                return Ok(fenced);
            }
        }
        if !old.is_empty() && self.has(&old) {
            if self.has(Data::PATH) {
                let undone = format!("{}/undone/member", layout::ASIDE_DIR);
                self.change("set data aside", |m| carry(m, Data::PATH, &undone)).await?;
            }
            self.effect("put the old data back", |state, name| {
                carry(state.machine(name), &old, Data::PATH);
                let data = state.machine(name).etcd_data();
                data.iter().for_each(|data| state.etcd.back(data.cluster));
            })
            .await?;
        }
        self.effect("forget what was placed", |state, name| {
            let machine = state.machine(name);
            [PLACED, OLD].iter().for_each(|path| machine.files.remove(path));
        })
        .await?;
        Ok(Output::default())
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

    async fn room(&self, sha: &str) -> Answer {
        let pieces = format!("{STATE}/piece.");
        let of_it = |path: &str| path.starts_with(&pieces);
        let left: Vec<String> = self.look(|state, name| {
            let below = state.machine(name).files.below(STATE).map(|(path, _)| path.to_owned());
            below.filter(|path| of_it(path)).collect()
        });
        if !left.is_empty() && !self.has(SNAPSHOT) {
            self.change("take away what was delivered", |m| left.iter().for_each(|p| m.files.remove(p)))
                .await?;
        }
        let here = match (self.sha(SNAPSHOT).as_deref() == Some(sha), self.has(PLACED)) {
            (false, _) => "nothing",
            (true, false) => "delivered",
            (true, true) => "restored",
        };
        let free = self.look(|state, name| state.machine(name).free);
        let disk = format!("/dev/sda1 99000000000 1 {free} 1% /\n");
        Ok(say(&format!("{here}\n{disk}{disk}")))
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
    async fn place(&self, url: &str, all: &str, token: &str, bump: &str) -> Answer {
        if self.has(PLACED) {
            return Ok(Output::default());
        }
        if !self.has(OLD) {
            let aside = format!("{}/etcd-before-{token}/member", layout::ASIDE_DIR);
            let old = if self.has(Data::PATH) { aside } else { "none".to_owned() };
            self.change("note where the old data goes", |m| m.files.put(OLD, 0o600, old.as_bytes())).await?;
        }
        let old = self.text(OLD);
        if old != "none" && !self.has(&old) {
            self.change("set data aside", |m| carry(m, Data::PATH, &old)).await?;
        }
        self.effect("place the restored data", |state, name| {
            let data = state.restored(url, all, token, bump);
            let machine = state.machine(name);
            machine.files.put(Data::PATH, 0o700, &data);
            machine.files.put(PLACED, 0o600, b"");
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
    /// The data of a member of the restored cluster; all members know it from the start. With revisions that were raised
    /// otherwise it is another cluster's.
    fn restored(&mut self, url: &str, all: &str, token: &str, bump: &str) -> Vec<u8> {
        let id = |text: &str| u64::from_str_radix(&sha256(text.as_bytes())[..16], 16).unwrap_or(1);
        let member = |url: &str| id(&format!("{url} {token}"));
        let listed = |(name, url): (&str, &str)| Listed {
            id: member(url),
            name: name.to_owned(),
            peer_url: url.to_owned(),
            learner: false,
            started: true,
        };
        let cluster = id(&format!("{all} {bump}"));
        self.etcd.restored(cluster, all.split(',').filter_map(|m| m.split_once('=')).map(listed).collect());
        // Over that of the snapshot, which this world does not read.
        let raised = bump.parse::<u64>().unwrap_or_default() + 1_000_000;
        serde_json::to_vec(&Data { cluster, member: member(url), written: vec![], raised })
            .unwrap_or_default()
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
