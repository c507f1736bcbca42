//! Everything rsadm can do to a host, closed.
//!
//! `Display` (the dry run, in `summary.rs`), [`Action::predict`] (in `predict.rs`) and `exec::run` are three exhaustive
//! matches, so no effect can forget its dry run. Actions hold no random value, and of secrets none but the file that the
//! operator names for backups: certificates are named by their spec and made when the step runs.

use serde::Serialize;

use super::shared::{Shared, Source};
use crate::{
    hash::sha256, inventory::NodeName, layout, observe::Facts, programs::Program, secret::Secret,
    versions::Version,
};

/// Stands in a file's text where the revision of its inputs goes; see [`Action::PutFile`].
pub const REVISION_MARK: &str = "@REVISION@";

/// Stands in objects where the cluster authority's certificate goes, base64 of PEM.
pub const CA_MARK: &str = "@CLUSTER-CA@";

/// A hash that is known only once the step has run.
pub const FRESH: &str = "fresh";

/// Stands where a hash would, for a folder.
pub const FOLDER: &str = "folder";

/// What a unit is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitVerb {
    /// Enabled at boot and started.
    Start,
    /// Enabled at boot and started anew, with its files read again.
    Restart,
    /// Stopped and no longer started at boot.
    Disable,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Notes what is on the host in the places that rsadm writes to, so that `reset` can leave it as it was.
    Remember {
        /// For which cluster the host is prepared.
        cluster: String,
        /// True where containerd will be ours.
        runtime: bool,
    },
    /// Writes a file. Where `inputs` are given, [`REVISION_MARK`] in the text becomes a hash over those files as they
    /// then are on the host, by which a later run tells what a process was started with.
    PutFile {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// The text.
        text: String,
        /// Files whose content the reader of this file reads once.
        inputs: Vec<String>,
    },
    /// Gives the host a shared secret, or only its public part.
    PutShared {
        /// Which.
        shared: Shared,
        /// Where it is taken from.
        source: Source,
        /// Whether the secret part goes along.
        secret: bool,
    },
    /// Puts a secret of the operator's, for root alone.
    PutSecret {
        /// Absolute path.
        path: String,
        /// Its bytes.
        #[serde(skip)]
        secret: Secret,
    },
    /// Puts rsadm itself on the host.
    PutAgent {
        /// Its SHA-256, hexadecimal.
        sha256: String,
    },
    /// Issues a certificate of the host's table and puts it in place with its new key.
    PutCert {
        /// Its name in the table of `pki::specs`.
        spec: &'static str,
        /// The files written; the one that the certificate is read from first.
        paths: Vec<String>,
        /// Whom it dials, where it lies in a kubeconfig.
        server: Option<String>,
    },
    /// Puts the kubelet's kubeconfig, which names the certificate that the kubelet rotates and holds no key.
    PutKubeletConf {
        /// Whom the kubelet dials.
        server: String,
    },
    /// Makes a folder, or sets the permission bits and the owner ([`layout::owner_of`]) of one.
    Folder {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a folder of the operator's for snapshots where there is none; one that is there stays as it is.
    SnapshotFolder {
        /// Absolute path.
        path: String,
    },
    /// Sets a file's permission bits.
    Mode {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Removes files or folders of ours.
    Remove {
        /// Absolute paths.
        paths: Vec<String>,
    },
    /// Fetches a program, verifies its checksum on the host, and puts it in place.
    Install {
        /// What.
        program: Program,
    },
    /// Pulls images.
    Pull {
        /// References.
        images: Vec<String>,
    },
    /// Tells a systemd unit something.
    Unit {
        /// Unit without `.service`.
        unit: String,
        /// What.
        verb: UnitVerb,
        /// Files that the unit's process reads once, when it starts.
        inputs: Vec<String>,
    },
    /// Loads kernel modules and applies kernel settings, the same that our two files bring at each boot.
    Sysctl,
    /// Waits until a process runs with the inputs that its manifest names.
    AwaitProcess {
        /// Its name.
        process: String,
        /// Files that it reads once, when it starts.
        inputs: Vec<String>,
    },
    /// Keeps the manifest of a static pod that runs with it: should the new one not serve, it is put back.
    Keep {
        /// The pod's name, and that of its process.
        process: String,
        /// The port that it listens on once it serves.
        port: u16,
    },
    /// Keeps no manifest from before any longer: what serves now stays, whatever comes of the steps after it.
    Commit,
    /// Waits until the process that a manifest asks for listens, which it does once it has taken its arguments.
    AwaitServing {
        /// The pod's name, and that of its process.
        process: String,
        /// The port.
        port: u16,
    },
    /// Waits until the host's API server says ready.
    AwaitApi {
        /// `https://ADDRESS:PORT`.
        url: String,
    },
    /// Waits until the API server that the kubelet dials is ready, and has a kubelet register whose node is not there. On a
    /// host without curl it waits until something listens there, and has the kubelet register in any case.
    Join {
        /// `https://ADDRESS:PORT`.
        url: String,
    },
    /// Waits until all members serve, with one leader and one cluster ID.
    AwaitEtcd {
        /// Every member and its client URL.
        members: Vec<(NodeName, String)>,
    },
    /// Adds the host to etcd's membership as a learner, which has no vote. Done already where it is listed.
    AddLearner {
        /// Whose member.
        member: NodeName,
        /// Where other members dial it.
        peer_url: String,
    },
    /// Waits until the host's learner is in sync and gives it its vote. A learner that does not come up is removed again.
    Promote {
        /// Whose member.
        member: NodeName,
        /// Where other members dial it.
        peer_url: String,
    },
    /// Takes a member out for good, leadership first. Done already where it is not listed.
    RemoveMember {
        /// Its name; its ID or its peer URL where it never had one.
        member: String,
        /// Where other members dial it.
        peer_url: String,
    },
    /// Has the host's member hand leadership over, where it leads.
    HandOver {
        /// Whose member.
        member: NodeName,
    },
    /// Waits until every member is healthy and all hold the same data.
    AwaitSound,
    /// Points the API server of a control plane that we did not build at other members, and waits until it serves again.
    SetEtcdServers {
        /// `--etcd-servers`.
        servers: Vec<String>,
        /// Where it serves: `https://ADDRESS:PORT`.
        url: String,
    },
    /// Gives the member of a host that we did not build the image of another version, and waits until it serves with that. All
    /// else of its manifest stays, but for arguments that the version does not know.
    SetEtcdImage {
        /// The image that its manifest has.
        had: String,
        /// The image.
        image: String,
        /// The version that it then says it runs.
        version: Version,
        /// Arguments as the manifest has them, and what stands there instead.
        arguments: Vec<(String, Option<String>)>,
    },
    /// Waits until a process is gone.
    AwaitStopped {
        /// Its name.
        process: String,
    },
    /// Moves etcd's data out of the way, where it can be found again: data is never deleted.
    SetAside,
    /// Takes the manifest of etcd away from a host that somebody else built, and keeps it ([`layout::ETCD_MANIFEST_ASIDE`]); one
    /// of ours goes.
    SetManifestAside,
    /// Records on the host to which cluster it belongs.
    RecordIdentity {
        /// The cluster's name.
        cluster: String,
    },
    /// Applies a bundle of Kubernetes objects from a control-plane host.
    Apply {
        /// Its name, recorded in the cluster with a hash, by which a later run tells it is unchanged.
        bundle: String,
        /// YAML documents, or the URL of some.
        objects: String,
    },
    /// Sets labels and taints of a node, and takes back those we set before.
    Mark {
        /// The node.
        node: NodeName,
        /// Arguments for `kubectl label`.
        labels: Vec<String>,
        /// Arguments for `kubectl taint`.
        taints: Vec<String>,
        /// What is then ours: label keys and taints, comma-separated.
        managed: String,
    },
    /// Waits until nodes are Ready.
    AwaitNodes {
        /// Which.
        nodes: Vec<NodeName>,
    },
    /// Waits until workloads of ours are rolled out.
    AwaitRollout {
        /// `kind/name` in kube-system.
        workloads: Vec<String>,
        /// What runs elsewhere is not waited for; empty for everywhere.
        nodes: Vec<NodeName>,
    },
    /// Empties a host of everything that rsadm put there.
    Wipe {
        /// The cluster, whose identity the host must bear.
        cluster: String,
    },
}

impl Action {
    /// False for steps that only wait, or prepare to go back.
    pub fn is_change(&self) -> bool {
        !matches!(
            self,
            Self::Keep { .. }
                | Self::Commit
                | Self::AwaitProcess { .. }
                | Self::AwaitStopped { .. }
                | Self::AwaitServing { .. }
                | Self::AwaitApi { .. }
                | Self::AwaitEtcd { .. }
                | Self::AwaitSound
                | Self::AwaitNodes { .. }
                | Self::AwaitRollout { .. }
        )
    }

    /// True for what changes etcd's member list.
    pub fn changes_membership(&self) -> bool {
        matches!(self, Self::AddLearner { .. } | Self::Promote { .. } | Self::RemoveMember { .. })
    }

    /// True for what is done from the workstation, beside the operations that travel to hosts: what changes the member list,
    /// and what members are asked.
    pub fn is_from_workstation(&self) -> bool {
        self.changes_membership() || matches!(self, Self::HandOver { .. } | Self::AwaitSound)
    }

    /// The files that the step writes, or removes.
    pub fn writes(&self) -> Vec<String> {
        match self {
            Self::PutFile { path, .. } => vec![path.clone()],
            Self::PutShared { shared, .. } => {
                shared.public_path().into_iter().chain([shared.secret_path()]).collect()
            }
            Self::PutCert { paths, .. } | Self::Remove { paths } => paths.clone(),
            Self::SetManifestAside => vec![layout::ETCD_MANIFEST.to_owned()],
            Self::PutKubeletConf { .. } => vec![layout::KUBELET_CONF.to_owned()],
            _ => vec![],
        }
    }

    /// The file that the step writes or the process that it starts, where others' content goes into it, and all of that.
    pub fn takes_in(&self) -> Option<(&str, Vec<String>)> {
        match self {
            Self::PutFile { path, text, inputs, .. } if !inputs.is_empty() => {
                Some((path, [text_input(text)].into_iter().chain(inputs.iter().cloned()).collect()))
            }
            Self::Unit { unit, verb, inputs } if *verb != UnitVerb::Disable => Some((unit, inputs.clone())),
            Self::AwaitProcess { process, inputs } => Some((process, inputs.clone())),
            _ => None,
        }
    }
}

/// What a manifest itself says, as an input beside the files that its process reads: without it a process that was
/// given other arguments could not be told from its predecessor, and nobody could wait for it.
pub fn text_input(text: &str) -> String {
    format!("{TEXT_INPUT}{}", sha256(text.as_bytes()))
}

/// Begins an input that is no path and stands for itself.
pub const TEXT_INPUT: &str = "text:";

/// The revision that a hash over `inputs` makes on a host, or `None` while one of them is still to be written.
pub fn revision(facts: &Facts, inputs: &[String]) -> Option<String> {
    let mut all = String::new();
    for path in inputs {
        if path.starts_with(TEXT_INPUT) {
            all.push_str(&format!("{path}\n"));
            continue;
        }
        let sha = &facts.files.get(path)?.sha256;
        if sha == FRESH {
            return None;
        }
        all.push_str(&format!("{path} {sha}\n"));
    }
    Some(sha256(all.as_bytes())[..16].to_owned())
}

/// The hash that a file with this text will have; [`FRESH`] where its revision is not known yet.
pub fn file_hash(text: &str, revision: Option<&str>) -> String {
    match revision {
        Some(revision) => sha256(text.replace(REVISION_MARK, revision).as_bytes()),
        None if text.contains(REVISION_MARK) => FRESH.into(),
        None => sha256(text.as_bytes()),
    }
}

/// The hash under which a bundle of these objects is recorded.
pub fn bundle_hash(objects: &str) -> String {
    sha256(objects.as_bytes())[..16].to_owned()
}
