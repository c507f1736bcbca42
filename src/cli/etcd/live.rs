//! What commands that change a running etcd have in common: hosts that answer, their locks, the members.

use crate::{
    cli::{
        CliError, Context, GateArgs, InventoryArg,
        naming::has_hosts,
        session::{Session, goes_on_without},
    },
    etcd::status::{EtcdReport, Hashes, Verdict},
    event::Events,
    exec::{ask, members::SshMembers},
    inventory::{Cluster, NodeName, Role},
    observe::Observed,
    plan::quorum,
};

/// A running etcd cluster: whichever of its hosts answer, since a member may be dead when it has to be looked after.
pub(super) struct Live<'a> {
    pub(super) session: Session<'a>,
}

impl<'a> Live<'a> {
    /// Connects to those hosts of members that answer. Nothing is locked yet.
    pub(super) async fn open(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
    ) -> Result<Self, CliError> {
        Self::open_gated(context, arg, events, &GateArgs::default()).await
    }

    /// As [`open`](Self::open), for a command that passes the quorum gate.
    pub(super) async fn open_gated(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
        gate: &GateArgs,
    ) -> Result<Self, CliError> {
        let cluster = context.load_gated(arg, gate)?;
        Self::of(context, cluster, events).await
    }

    /// As [`open`](Self::open), for a command that names one of them; it passes no gate.
    pub(super) async fn open_for(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
        host: &NodeName,
    ) -> Result<Self, CliError> {
        let cluster = context.load(arg)?.cluster;
        has_hosts(&cluster, [host], Some(Role::Etcd))?;
        Self::of(context, cluster, events).await
    }

    async fn of(context: &'a Context, cluster: Cluster, events: Events) -> Result<Self, CliError> {
        let (session, silent) =
            Session::connect(context, cluster, events, |n| n.is(Role::Etcd), None).await?;
        if session.fleet.hosts().is_empty() {
            return Err(session.not_begun(&silent));
        }
        goes_on_without(&session.events, &silent);
        Ok(Self { session })
    }

    /// Takes the locks of all hosts that answer, and looks whether they are of this cluster; what was seen there. `command`
    /// tells others who holds them.
    pub(super) async fn lock(&self, command: &str) -> Result<Observed, CliError> {
        self.session.lock(command).await?;
        self.session.belongs().await
    }

    /// How the members are at this moment.
    pub(super) async fn report(&self) -> EtcdReport {
        ask::report(&self.session.members()).await
    }

    /// The same with a look at what they hold, where a quorum serves; who asks wants to change something that takes one.
    pub(super) async fn serving(&self, members: &SshMembers<'_>) -> Result<EtcdReport, CliError> {
        let report = ask::compared(members, Hashes::Quick).await;
        match report.verdict {
            Verdict::NoQuorum => Err(quorum::none("etcd has no quorum", "it takes no changes").into()),
            _ => Ok(report),
        }
    }
}
