//! `rsadm etcd snapshot save`.

use std::path::PathBuf;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    backup::{
        BackupError, Check, Manifest,
        bundle::{Carried, Recipient},
        choose::{Doubts, candidates, host_of, others},
        file,
        host::Keeper,
        keys,
        manifest::stem,
        take::{self, Source},
    },
    cli::{
        CliError, Context, Exit, InventoryArg,
        naming::has_hosts,
        session::{Session, goes_on_without},
    },
    etcd::{
        EtcdApi, EtcdError, Silence,
        client::EtcdClient,
        status::{EtcdReport, Hashes, MemberReport},
    },
    event::bytes,
    event::{Stage, count},
    exec::{ask, members::SshMembers},
    inventory::{Node, NodeName, Role},
    layout,
    line::chain,
    secret::Secret,
};

mod refusals;

use refusals::{CLEARS, destination, kept_nowhere, may_be_better_elsewhere, strangers, without_the_key};

const PHASE: &str = "snapshot";

/// Take a snapshot of etcd and check it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It comes from the healthiest follower, so that no write waits for it; without a quorum, from the
survivor that has seen most. The file is that of `etcdctl snapshot save`, with its manifest
beside it, for its owner alone. It takes its name when it is whole, checked and on the disk.

Examples:
  rsadm etcd snapshot save inventories/prod.yaml --to /srv/backups
  rsadm etcd snapshot save --on-host
  rsadm etcd snapshot save --with-pki --recipient age1…")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    /// A folder, or a file that does not exist yet
    #[arg(long, value_name = "PATH", default_value = ".", conflicts_with = "on_host")]
    to: PathBuf,

    /// Keep it on the member's own host, below /var/lib/rsadm/backups
    #[arg(long)]
    on_host: bool,

    /// From the member on this host, instead of the one that has least to do
    #[arg(long, value_name = "HOST")]
    member: Option<String>,

    /// Put the keys of the cluster in as well, so that it restores on fresh hosts; takes --recipient
    #[arg(long, requires = "recipient", conflicts_with = "on_host")]
    with_pki: bool,

    /// Encrypt it to this age recipient; may be given several times
    #[arg(long, value_name = "AGE1…", conflicts_with = "on_host")]
    recipient: Vec<Recipient>,
}

impl Args {
    /// What can be said of `--to` before anybody is dialled.
    fn can_be_put(&self) -> Result<(), CliError> {
        let to = self.to.to_string_lossy();
        if to.contains("://") {
            return Err(CliError::new(
                Exit::Usage,
                format!("{to} is a bucket, and --to takes a folder or a file"),
            )
            .hint("etcd.backup in the inventory puts snapshots into buckets, on a schedule"));
        }
        if self.on_host {
            return Ok(());
        }
        let (folder, file) =
            destination(&self.to, !self.recipient.is_empty()).map_err(|e| CliError::new(Exit::Usage, e))?;
        match file.is_some() && !folder.is_dir() {
            true => Err(CliError::new(
                Exit::Usage,
                format!("there is no folder {} on this machine", folder.display()),
            )),
            false => Ok(()),
        }
    }
}

/// What came of it.
#[derive(Serialize)]
struct Saved {
    /// Where it is: a path here, or HOST:PATH.
    path: String,
    #[serde(flatten)]
    manifest: Manifest,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let wants = |n: &Node| n.is(Role::Etcd) || (args.with_pki && n.is(Role::ControlPlane));
    let cluster = context.load(&args.inventory)?.cluster;
    args.can_be_put()?;
    if let Some(member) = &args.member {
        has_hosts(&cluster, [&NodeName::new(member.as_str())], Some(Role::Etcd))?;
    }
    let (session, silent) = Session::connect(context, cluster, context.ui.events(), wants, None).await?;
    if session.fleet.hosts().is_empty() {
        return Err(session.not_begun(&silent));
    }
    goes_on_without(&session.events, &silent);
    let members = session.members();
    let taken = Taking { args, session: &session, members: &members };
    let saved = taken.save().await?;
    context.print(&saved, text)?;
    Ok(Exit::Done)
}

/// One that is kept on a member's own host, before something is done that may be regretted. Answers where it is.
pub(in crate::cli::etcd) async fn before_a_change(
    session: &Session<'_>,
    inventory: &InventoryArg,
) -> Result<String, CliError> {
    let args = Args {
        inventory: inventory.clone(),
        to: PathBuf::new(),
        on_host: true,
        member: None,
        with_pki: false,
        recipient: vec![],
    };
    let members = session.members();
    Ok(Taking { args: &args, session, members: &members }.save().await?.path)
}

struct Taking<'a> {
    args: &'a Args,
    session: &'a Session<'a>,
    members: &'a SshMembers<'a>,
}

impl Taking<'_> {
    /// From the first member that can give one.
    async fn save(&self) -> Result<Saved, CliError> {
        let report = ask::compared(self.members, Hashes::Quick).await;
        if !report.serves {
            let text =
                "etcd has no quorum: this will be what one survivor has, which may lack the last writes";
            self.session.events.warn(text, Some("rsadm etcd status tells which members are missing".into()));
        }
        let candidates = candidates(&report, self.args.member.as_deref());
        let carried = if self.args.with_pki { self.keys().await? } else { vec![] };
        let (mut failure, mut asked) = (None, vec![]);
        for member in candidates {
            let name = NodeName::new(host_of(member));
            self.warn_of(member, &report);
            let doubts = Doubts::of(&report, member);
            let shown = self.session.events.stage(PHASE, format!("from {name}"), [name.clone()]);
            match self.save_from(&name, doubts, &carried, &shown).await {
                Ok(saved) => {
                    shown.done(format!("{} from {name}, checked", bytes(saved.manifest.size)));
                    return Ok(saved);
                }
                // Another member may do better, and its host where it is kept there; another disk of this machine there is not.
                Err(error) if may_be_better_elsewhere(&error, self.args.on_host) => {
                    self.session.events.warn(format!("{name} gave no snapshot: {}", chain(&error)), None);
                    asked.push(name);
                    failure = Some(error);
                }
                Err(error) if error.is_full() => {
                    return Err(
                        CliError::from(error).hint("nothing was left there; --to names another folder")
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(match failure {
            Some(error) if self.args.on_host => kept_nowhere(error, &asked),
            Some(error) => error.into(),
            None => self.nobody(&report),
        })
    }

    /// What is wrong with a member is wrong with its snapshot. That there is no quorum was told of all, unless one was named.
    fn warn_of(&self, member: &MemberReport, report: &EtcdReport) {
        let trouble = member.error.as_ref().map(ToString::to_string);
        let told = trouble.filter(|_| report.serves || self.args.member.is_some());
        let Some(why) = told.or(Doubts::of(report, member).damaged) else { return };
        let text = format!("{} is not well: {why}; its snapshot will not count as verified", host_of(member));
        let is_well = |m: &MemberReport| m.healthy && Doubts::of(report, m).damaged.is_none();
        let help = self.args.member.is_some() && report.members.iter().any(is_well);
        self.session
            .events
            .warn(text, help.then(|| "without --member it comes from one that is well".to_owned()));
    }

    /// etcd may serve without the member that was named, and who answers may be another cluster's.
    fn nobody(&self, report: &EtcdReport) -> CliError {
        let named = self.args.member.as_ref();
        if let (None, [other, ..]) = (named, &others(report)[..]) {
            return strangers(other);
        }
        let text = match named {
            Some(name) => format!("no member answers on {name}"),
            None => "no member of etcd answers, so none can give a snapshot".to_owned(),
        };
        CliError::new(Exit::StepFailed, text).hint(
            "rsadm etcd status tells why; what a stopped member has is on its host, below /var/lib/etcd",
        )
    }

    async fn save_from(
        &self,
        name: &NodeName,
        doubts: Doubts,
        carried: &[Carried],
        shown: &Stage,
    ) -> Result<Saved, BackupError> {
        let gone = |silence: Silence| EtcdError::Unavailable { endpoint: name.to_string(), why: silence.why };
        let client = self.members.client(name).await.map_err(gone)?;
        let cluster = &self.session.cluster;
        let source = Source {
            cluster: cluster.name.clone(),
            member: name.to_string(),
            status: client.status().await?,
            kubernetes: cluster.has_kubernetes().then(|| cluster.release.kubernetes.to_string()),
            doubts,
        };
        match self.args.on_host {
            true => self.on_host(name, &source).await,
            false => self.here(name, &client, &source, carried, shown).await,
        }
    }

    async fn here(
        &self,
        name: &NodeName,
        client: &EtcdClient,
        source: &Source,
        carried: &[Carried],
        shown: &Stage,
    ) -> Result<Saved, BackupError> {
        let (folder, file) = destination(&self.args.to, !self.args.recipient.is_empty())?;
        let size = source.status.db_size;
        let told = |n: u64| {
            // Each 16 MiB, so that nobody is told a thousand times a second.
            if n % (16 << 20) < 32 << 10 {
                shown.says(name, format!("{} of about {}", bytes(n), bytes(size)));
            }
        };
        // A bundle is written beside what goes into it.
        let needed = size.saturating_mul(if self.args.recipient.is_empty() { 1 } else { 2 });
        let _begun = file::Begun(folder.clone());
        let arrived = take::receive(client, &folder, needed, &told).await?;
        let manifest = source.manifest(&arrived.checked, OffsetDateTime::now_utc());
        let (recipients, carried) = (self.args.recipient.clone(), carried.to_vec());
        if self.args.with_pki && source.kubernetes.is_some() {
            let (path, carried) = (arrived.path().to_owned(), carried.clone());
            let asked = tokio::task::spawn_blocking(move || keys::lack_the_key_to(&path, &carried)).await;
            if asked.map_err(BackupError::task("read the snapshot"))?? {
                self.without_the_key().await?;
            }
        }
        let keep = move || take::keep(arrived, manifest, file.as_deref(), &recipients, &carried);
        let kept = tokio::task::spawn_blocking(keep).await;
        let (path, manifest) = kept.map_err(BackupError::task("keep the snapshot"))??;
        Ok(Saved { path: path.display().to_string(), manifest })
    }

    async fn on_host(&self, name: &NodeName, source: &Source) -> Result<Saved, BackupError> {
        let host = self.session.fleet.host(name).cloned();
        let host = host.ok_or_else(|| BackupError::Refused(format!("{name} is not connected")))?;
        let keeper = Keeper { host, folder: layout::BACKUP_DIR.to_owned() };
        let taken_at = OffsetDateTime::now_utc();
        let url = self.session.cluster.node(name).map(Node::client_url).unwrap_or_default();
        let stem = stem(&source.cluster, taken_at, name.as_str());
        let saved = keeper.save(&stem, &url, source.status.db_size).await?;
        let manifest = source.manifest_of(saved, taken_at);
        // Before its trial, which may break off: without a manifest nobody ever removes it.
        keeper.describe(&manifest).await?;
        // etcdutl's trial is the check that a host can do.
        let tried = keeper.verify(&manifest.file).await;
        let look = match &tried {
            Ok(_) => Some(Ok(Check::Restored)),
            Err(error) => error.damage().map(Err),
        };
        let manifest = match look {
            Some(look) => manifest.after(look),
            None => manifest,
        };
        keeper.describe(&manifest).await?;
        tried?;
        Ok(Saved { path: format!("{name}:{}/{}", keeper.folder, manifest.file), manifest })
    }

    /// The data is encrypted at rest, and the key to it is where only an API server knows; or it was once.
    async fn without_the_key(&self) -> Result<(), BackupError> {
        let told = keys::encryption_configs(self.session.fleet.hosts()).await;
        let control_planes: Vec<_> =
            self.session.cluster.with_role(Role::ControlPlane).map(|node| &node.name).collect();
        let warning = without_the_key(&control_planes, &told)?;
        self.session.events.warn(warning, Some(CLEARS.to_owned()));
        Ok(())
    }

    /// What a cluster's data cannot be read without, from the hosts that keep it, and the inventory.
    async fn keys(&self) -> Result<Vec<Carried>, CliError> {
        let hosts = self.session.fleet.hosts();
        let mut carried = keys::read(hosts, self.session.cluster.has_kubernetes()).await?;
        let inventory = self.session.context.inventory_file(&self.args.inventory)?;
        carried.push(Carried { path: "inventory.yaml".into(), data: Secret::new(inventory) });
        Ok(carried)
    }
}

fn text(saved: &Saved) -> String {
    let m = &saved.manifest;
    let mut text = format!(
        "{}\n  revision {}, {}, etcd {}, from {}\n",
        saved.path,
        m.revision,
        bytes(m.size),
        m.etcd,
        m.member
    );
    if !m.carries.is_empty() {
        text.push_str(&format!(
            "  encrypted; carries {} that a fresh cluster needs\n",
            count(m.carries.len(), "file")
        ));
    }
    text
}
