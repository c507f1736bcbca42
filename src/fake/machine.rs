//! One machine: files, systemd units, a kubelet, and what runs in its static pods.
//!
//! Time is a count of ticks, one for each effect and each question anywhere in the world. Nothing that is started by
//! somebody else is there at once: the kubelet sees a changed manifest [`NOTICE`] ticks later and starts the new
//! process [`START`] ticks after the old one is gone, so a plan that does not wait for a change, or waits for the wrong
//! one, is found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    etcd::Data,
    files::{Entry, Files},
    pods::{self, Wanted},
};
use crate::{inventory::NodeName, layout, phases::etcd::upgrade::version_of};

/// Ticks until the kubelet acts on a changed manifest.
pub(super) const NOTICE: u64 = 12;

/// Ticks from a process's end to the start of its successor.
pub(super) const START: u64 = 2;

/// Ticks from a process's start until it serves.
pub(super) const SERVE: u64 = 3;

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and flags.
    pub argv: Vec<String>,
    /// With which inputs it was started.
    pub revision: Option<String>,
    /// Since when.
    pub since: u64,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Started at boot.
    pub enabled: bool,
    /// What runs.
    pub process: Option<Process>,
}

/// A static pod that the kubelet has taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StaticPod {
    wanted: Wanted,
    process: Option<Process>,
    starts: u64,
}

/// A manifest as the kubelet saw it last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    sha256: Arc<str>,
    since: u64,
    taken_up: bool,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name in the inventory.
    pub name: NodeName,
    /// Its own name, `uname -n`.
    pub hostname: String,
    /// Where others dial it.
    pub address: Ipv4Addr,
    /// `uname -m`.
    pub arch: String,
    /// How many bytes its one disk has left.
    pub free: u64,
    /// Its files.
    pub files: Files,
    /// Its units.
    pub units: BTreeMap<String, Unit>,
    /// Images that containerd has.
    pub images: BTreeSet<String>,
    /// Kernel modules that are loaded and settings that are in force.
    pub kernel: BTreeSet<String>,
    /// Version of a containerd that is not ours.
    pub own_containerd: Option<String>,
    /// How often it was started.
    pub boots: u32,
    /// True while it has no power.
    pub off: bool,
    /// Held by the run that is under way.
    pub lock: Option<String>,
    /// Since when the kubelet runs that registered the machine's node: it does so once.
    pub registered: Option<u64>,
    pods: BTreeMap<String, StaticPod>,
    seen: BTreeMap<String, Seen>,
}

impl Machine {
    /// A bare machine.
    pub fn new(name: NodeName, address: Ipv4Addr) -> Self {
        Self {
            hostname: name.to_string(),
            name,
            address,
            arch: "x86_64".into(),
            free: 90_000_000_000,
            files: Files::default(),
            units: BTreeMap::new(),
            images: BTreeSet::new(),
            kernel: BTreeSet::new(),
            own_containerd: None,
            boots: 1,
            off: false,
            lock: None,
            registered: None,
            pods: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// A process by its name: a unit's, or that of a static pod's container.
    pub fn process(&self, name: &str) -> Option<&Process> {
        let unit = self.units.get(name).and_then(|u| u.process.as_ref());
        unit.or_else(|| self.pods.values().find(|p| p.wanted.name == name)?.process.as_ref())
    }

    /// All processes by name.
    pub fn processes(&self) -> impl Iterator<Item = (&str, &Process)> {
        let units = self.units.iter().filter_map(|(name, u)| Some((name.as_str(), u.process.as_ref()?)));
        let pods = self.pods.values().filter_map(|p| Some((p.wanted.name.as_str(), p.process.as_ref()?)));
        units.chain(pods)
    }

    /// The version of the etcd that runs, by its image.
    pub(super) fn etcd_version(&self) -> Option<String> {
        let pod = self.pods.values().find(|p| p.wanted.name == "etcd" && p.process.is_some())?;
        version_of(&pod.wanted.image).map(|version| version.to_string().trim_start_matches('v').to_owned())
    }

    /// True where the process runs for long enough to answer.
    pub fn serves(&self, name: &str, now: u64) -> bool {
        self.process(name).is_some_and(|p| now >= p.since + SERVE)
    }

    /// True where containerd answers.
    pub fn has_containerd(&self) -> bool {
        self.units.get("containerd").is_some_and(|u| u.process.is_some())
    }

    /// etcd's data directory, where one was founded.
    pub fn etcd_data(&self) -> Option<Data> {
        Data::read(self.files.read(Data::PATH)?)
    }

    /// `systemctl restart`: a process with the environment that the unit and its drop-in now give.
    pub fn restart(&mut self, unit: &str, now: u64) -> Result<(), String> {
        self.stop(unit);
        if unit == "containerd" && self.own_containerd.is_none() {
            self.needs(&[layout::CONTAINERD_UNIT, "/usr/local/bin/containerd"])?;
        }
        match unit {
            "containerd" => self.needs(&[layout::CONTAINERD_CONFIG])?,
            "rsadm-network" => self.needs(&[layout::NETWORK_UNIT, layout::NETWORK_SCRIPT])?,
            "kubelet" => self.kubelet_can_start()?,
            other => return Err(format!("Unit {other}.service not found.")),
        }
        let argv = self.exec_start(unit);
        let revision = self.revision_of(unit);
        self.units.entry(unit.into()).or_default().process = Some(Process { argv, revision, since: now });
        Ok(())
    }

    /// `systemctl stop`. Containers go on: they are containerd's, and containerd's are their shims'.
    pub fn stop(&mut self, unit: &str) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.process = None;
        }
    }

    /// Power is lost: what ran is gone, files stay.
    pub fn power_off(&mut self) {
        self.off = true;
        self.units.values_mut().for_each(|u| u.process = None);
        self.pods.clear();
        self.seen.clear();
        self.kernel.clear();
        self.lock = None;
        self.files.remove("/run");
    }

    /// Power comes back: what is enabled starts.
    pub fn power_on(&mut self, now: u64) {
        self.off = false;
        self.boots += 1;
        self.load_kernel_settings();
        for unit in ["containerd", "rsadm-network", "kubelet"] {
            if self.units.get(unit).is_some_and(|u| u.enabled) {
                let _ = self.restart(unit, now);
            }
        }
    }

    /// What systemd does at boot with our two files.
    fn load_kernel_settings(&mut self) {
        for path in [layout::MODULES_CONFIG, layout::SYSCTL_CONFIG] {
            let text = self.files.text(path).unwrap_or_default();
            self.kernel.extend(lines(&text));
        }
    }

    /// Kills all containers, as `ctr tasks kill` does; the kubelet is to be stopped before.
    pub fn kill_pods(&mut self) {
        self.pods.clear();
        self.seen.clear();
    }

    /// A container ends by itself; the kubelet tries it again and again.
    pub(super) fn crash(&mut self, name: &str) {
        for pod in self.pods.values_mut().filter(|p| p.wanted.name == name) {
            pod.process = None;
        }
    }

    fn needs(&self, paths: &[&str]) -> Result<(), String> {
        match paths.iter().find(|p| !self.files.has(p)) {
            None => Ok(()),
            Some(path) => Err(format!("{path}: no such file")),
        }
    }

    fn kubelet_can_start(&self) -> Result<(), String> {
        self.needs(&[layout::KUBELET_UNIT, "/usr/local/bin/kubelet", layout::KUBELET_CONFIG])?;
        if !self.has_containerd() {
            return Err("no containerd to talk to".into());
        }
        let argv = self.exec_start("kubelet");
        if argv.iter().any(|a| a.starts_with(pods::UNKNOWN_FLAG)) {
            return Err(format!("unknown flag: {}", pods::UNKNOWN_FLAG));
        }
        if pods::flag(&argv, "kubeconfig").is_none() {
            return Ok(());
        }
        let ca = crate::pki::authorities::Ca::Cluster.cert_path();
        self.needs(&[
            layout::KUBELET_CONF,
            layout::KUBELET_CLIENT_CURRENT,
            layout::KUBELET_SERVING_CERT,
            layout::KUBELET_SERVING_KEY,
            &ca,
        ])
    }

    /// Program and flags of a unit's `ExecStart`, its continued lines joined.
    fn exec_start(&self, unit: &str) -> Vec<String> {
        let text = self.files.text(&format!("/etc/systemd/system/{unit}.service")).unwrap_or_default();
        let joined = text.replace("\\\n", " ");
        let line = joined.lines().find_map(|l| l.strip_prefix("ExecStart=")).unwrap_or_default().to_owned();
        line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect()
    }

    fn revision_of(&self, unit: &str) -> Option<String> {
        let text = self.files.text(&format!("/etc/systemd/system/{unit}.service.d/10-rsadm.conf"))?;
        let prefix = format!("Environment={}=", layout::REVISION_VARIABLE);
        text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    }

    /// Lets the kubelet look at its manifests. `allowed` has the last word on what may start.
    pub(super) fn tick(&mut self, now: u64, allowed: impl Fn(&Wanted, &Self) -> bool) {
        if self.units.get("kubelet").is_none_or(|u| u.process.is_none()) {
            return;
        }
        self.look(now);
        let due: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, p)| p.process.is_none() && now >= p.starts)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            let Some(wanted) = self.pods.get(&path).map(|p| p.wanted.clone()) else { continue };
            let starts = self.has_containerd() && wanted.can_start(&self.files) && allowed(&wanted, self);
            if !starts {
                continue;
            }
            self.images.insert(wanted.image.clone());
            if let Some(pod) = self.pods.get_mut(&path) {
                pod.process = Some(Process { argv: wanted.argv, revision: wanted.revision, since: now });
            }
        }
    }

    /// Takes up manifests that have been there, changed or gone for long enough.
    fn look(&mut self, now: u64) {
        let hidden = |path: &str| path.rsplit('/').next().is_some_and(|file| file.starts_with('.'));
        let there: BTreeMap<String, Arc<str>> = self
            .files
            .below(layout::MANIFESTS_DIR)
            .filter(|(path, _)| !hidden(path))
            .filter_map(|(path, entry)| match entry {
                Entry::File { sha256, .. } => Some((path.to_owned(), sha256.clone())),
                Entry::Folder { .. } | Entry::Link { .. } => None,
            })
            .collect();
        self.seen.retain(|path, _| there.contains_key(path));
        self.pods.retain(|path, _| there.contains_key(path));
        for (path, sha256) in there {
            let seen = self.seen.entry(path.clone()).or_insert_with(|| Seen {
                sha256: "".into(),
                since: 0,
                taken_up: true,
            });
            if seen.sha256 != sha256 {
                *seen = Seen { sha256: sha256.clone(), since: now, taken_up: false };
            }
            if seen.taken_up || now < seen.since + NOTICE {
                continue;
            }
            seen.taken_up = true;
            if let Some(wanted) = self.files.text(&path).and_then(|text| pods::read(&sha256, &text)) {
                self.take_up(path, wanted, now);
            }
        }
    }

    fn take_up(&mut self, path: String, wanted: Wanted, now: u64) {
        match self.pods.get_mut(&path) {
            Some(pod) if pod.wanted.uid == wanted.uid && pod.wanted.image == wanted.image => {
                pod.wanted = wanted;
            }
            _ => drop(self.pods.insert(path, StaticPod { wanted, process: None, starts: now + START })),
        }
    }
}

/// Lines that say something.
pub(super) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned)
}
