//! `rsadm etcd status`.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::watch;
use crate::{
    cli::{CliError, Context, Exit, InventoryArg, args::duration, literal, session::Session},
    etcd::status::{Hashes, Verdict},
    exec::survey::{OVERTIME_MILLIS, Survey},
    inventory::{Node, Role},
    ui::etcd_status::render,
};

/// When an answer is due, connecting included: what a person waits for without wondering.
pub(in crate::cli) const DUE: Duration = Duration::from_millis(4_600);

/// Show every member, the quorum, and what to do where something is off
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with 8 where it warns of anything, with 9 where there is no quorum, and with 4 where no host
of a member can be reached.

Examples:
  rsadm etcd status inventories/prod.yaml
  rsadm etcd status --watch
  rsadm etcd status --compare       at a quiet hour, for databases of gigabytes
  rsadm etcd status -o json | jq .quorum.can_lose")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// Go on until Ctrl-C, looking again each TIME (2s where none is given): redrawn on a terminal, elsewhere a
    /// line for each change. What members hold is compared then up to 100 MiB, since each hash holds up writes
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = duration
    )]
    pub(in crate::cli) watch: Option<Duration>,

    /// Compare what members hold however large it is, and wait for that; unasked it is done up to 1 GiB. A hash
    /// of it holds up writes, for about a second per gigabyte
    #[arg(long, conflicts_with = "watch")]
    pub(in crate::cli) compare: bool,
}

/// How long a host may take to let us in, so that the answer comes in time where one is off.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

// An answer comes within 5 s: where hosts hang, and where some let nobody in and those that do hang then.
const _: () = assert!(DUE.as_millis() < 5_000 && PATIENCE.as_millis() + OVERTIME_MILLIS < 5_000);

/// When the answer is due of a look that began then. The time that the operator gives to logins is none of the survey's: a
/// member that was not asked in time counts as silent.
pub(super) fn due(context: &Context, began: Instant) -> Instant {
    let from = context.options.timeout.map_or(began, |_| Instant::now());
    from + DUE
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    if let Some(pause) = args.watch {
        return watch::run(&args.inventory, context, pause).await;
    }
    let began = Instant::now();
    let (session, unreachable) = Session::look(context, &args.inventory, PATIENCE, concerned).await?;
    let survey = Survey {
        cluster: &session.cluster,
        fleet: &session.fleet,
        unreachable: &unreachable,
        inventory: args.inventory.as_typed(),
        due: due(context, began),
    };
    let hashes = if args.compare { Hashes::Whole } else { Hashes::Quick };
    let mut report = survey.etcd(hashes, OffsetDateTime::now_utc()).await;
    literal::advice(&mut report.advice, context.inventory());
    context.print(&report, render)?;
    Ok(exit(report.verdict))
}

/// Hosts that know something of etcd.
pub(super) fn concerned(node: &Node) -> bool {
    node.is(Role::Etcd) || node.is(Role::ControlPlane)
}

/// How a command ends that found etcd so.
pub(in crate::cli) fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Healthy => Exit::Done,
        Verdict::Degraded => Exit::Degraded,
        Verdict::NoQuorum => Exit::NoQuorum,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io, net::SocketAddr, sync::Arc};

    use async_trait::async_trait;
    use clap::Parser;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::{
        cli::{Cli, Interrupt},
        etcd::status::MemberReport,
        host::{Forward, Host, HostError, Op, Output, fleet::Fleet},
        inventory::NodeName,
        manifests::testing,
        ui::{Settings, Ui},
    };

    fn context(command: &str) -> Context {
        let options = Cli::parse_from(command.split(' ')).options;
        Context::new(options, Ui::new(Settings::default(), io::sink(), io::sink()), Interrupt::default())
    }

    #[tokio::test(start_paused = true)]
    async fn members_are_asked_in_time_however_long_a_login_may_take() {
        for (command, left) in [("rsadm up", Duration::ZERO), ("rsadm --timeout 1m up", DUE)] {
            let context = context(command);
            let began = Instant::now();
            advance(Duration::from_secs(6)).await;
            let due = due(&context, began);
            assert_eq!(due.saturating_duration_since(Instant::now()), left, "{command}");
        }
    }

    /// A host that let us in and hangs since, in all that it is asked or in what leads to its member.
    struct Hangs {
        name: NodeName,
        reads: bool,
    }

    #[async_trait]
    impl Host for Hangs {
        fn name(&self) -> &NodeName {
            &self.name
        }

        async fn run(&self, ops: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
            let is_read = |op: &Op| self.reads && matches!(op, Op::Read(_));
            if !ops.iter().all(is_read) {
                pending::<()>().await;
            }
            Ok(vec![Output::default(); ops.len()])
        }

        async fn forward(&self, _: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
            pending().await
        }
    }

    /// The clock of this test stands still except while all tasks wait: no busy machine makes it longer.
    #[tokio::test(start_paused = true)]
    async fn hosts_that_hang_hold_no_answer_up() {
        let (cluster, context) = (testing::ha(), context("rsadm etcd status"));
        for (reads, logins) in
            [(false, Duration::ZERO), (true, Duration::ZERO), (false, PATIENCE), (true, PATIENCE)]
        {
            let host = |node: &Node| Arc::new(Hangs { name: node.name.clone(), reads }) as Arc<dyn Host>;
            let fleet = Fleet::new(cluster.nodes.iter().map(host).collect(), 8);
            let began = Instant::now();
            advance(logins).await;
            let (fleet, due) = (&fleet, due(&context, began));
            let survey = Survey { cluster: &cluster, fleet, unreachable: &[], inventory: String::new(), due };
            let asked = survey.etcd(Hashes::Quick, OffsetDateTime::UNIX_EPOCH);
            let report = timeout(Duration::from_secs(3600), asked).await.unwrap();
            assert!(began.elapsed() <= DUE, "{:?}, reads: {reads}, logins: {logins:?}", began.elapsed());
            assert_eq!(report.verdict, Verdict::NoQuorum);
            let silent = |m: &MemberReport| m.error.iter().any(|e| e.to_string().starts_with("no answer"));
            assert!(report.members.len() == 3 && report.members.iter().all(silent), "{report:?}");
        }
    }
}
