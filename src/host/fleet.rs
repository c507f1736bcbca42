//! All hosts of a cluster at once: bounded, and with every host's own outcome kept.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    At, ConnectKind, Host, HostError,
    ssh::{Options, SshHost},
};
use crate::inventory::{Node, NodeName};

/// How long all hosts together have for a login and a root shell, where nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(14);

// Who waits for an answer gets one within 15 s, and the table of those that cannot be used takes a moment of that.
const _: () = assert!(PATIENCE.as_millis() < 15_000);

/// How many logins a jump host sees at the same time: sshd's `MaxStartups` starts to refuse at ten.
const LOGINS_PER_BASTION: usize = 8;

/// How long a login holds back those that wait for their turn. One that takes longer meets a host that does not answer,
/// and a few of those must not use up the time of all others.
const LOGIN: Duration = Duration::from_secs(2);

/// Hosts that can be asked, in the order of the inventory.
#[derive(Clone)]
pub struct Fleet {
    hosts: Vec<Arc<dyn Host>>,
    new_keys: Vec<(NodeName, String)>,
    concurrency: usize,
}

impl Fleet {
    /// Of hosts that stand already; at most `concurrency` are asked at the same time.
    pub fn new(hosts: Vec<Arc<dyn Host>>, concurrency: usize) -> Self {
        Self { hosts, new_keys: vec![], concurrency }
    }

    /// Connects to these hosts and opens their root shells, so that whoever cannot be reached or refuses sudo
    /// is known at once and all together, before anything is done.
    ///
    /// Comes back after `patience`, whatever hosts do: who is not there by then counts as unreachable.
    pub async fn connect(
        nodes: &[&Node],
        concurrency: usize,
        options: &Options,
        patience: Duration,
    ) -> (Self, Vec<HostError>) {
        let bastion = nodes.iter().any(|node| node.ssh.bastion.is_some());
        let at_once = if bastion { concurrency.min(LOGINS_PER_BASTION) } else { concurrency };
        // Of those too that get no further: ssh knows the key from then on.
        let new_keys = &Mutex::new(Vec::new());
        let login = |node| async move {
            let host = SshHost::connect(node, options).await?;
            let keys = host.new_keys().iter().map(|key| (host.name().clone(), key.clone()));
            new_keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
            Ok(host)
        };
        let (mut hosts, mut errors) = (Vec::new(), Vec::new());
        for result in enter(nodes, at_once, patience, login).await {
            match result {
                Ok(host) => hosts.push(Arc::new(host) as Arc<dyn Host>),
                Err(error) => errors.push(error),
            }
        }
        let new_keys = std::mem::take(&mut *new_keys.lock().unwrap_or_else(PoisonError::into_inner));
        (Self { hosts, new_keys, concurrency }, errors)
    }

    /// Keys that nobody had verified and that were trusted at first sight, each with its host.
    pub fn new_keys(&self) -> &[(NodeName, String)] {
        &self.new_keys
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<dyn Host>] {
        &self.hosts
    }

    /// The host of that name, if it could be reached.
    pub fn host(&self, name: &NodeName) -> Option<&Arc<dyn Host>> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// Does the same for each of these hosts, some at a time, and waits for all: one host's failure stops no other.
    /// The results are in the order of the names.
    pub async fn for_each<T, F, Fut>(
        &self,
        names: &[NodeName],
        work: F,
    ) -> Vec<(NodeName, Result<T, HostError>)>
    where
        F: Fn(Arc<dyn Host>) -> Fut,
        Fut: Future<Output = Result<T, HostError>>,
    {
        let tasks = names.iter().map(|name| {
            let work = self.host(name).map(|host| work(Arc::clone(host)));
            async move {
                let result = match work {
                    Some(work) => work.await,
                    None => Err(not_connected(name)),
                };
                (name.clone(), result)
            }
        });
        all(tasks, self.concurrency).await
    }
}

/// Logs in to all and opens their root shells, so many at a time, until the time is over.
async fn enter<'a, H: Host + 'static, Fut: Future<Output = Result<H, HostError>>>(
    nodes: &[&'a Node],
    at_once: usize,
    patience: Duration,
    login: impl Fn(&'a Node) -> Fut,
) -> Vec<Result<H, HostError>> {
    let due = Instant::now() + patience;
    let doors = permits(at_once);
    let (doors, login) = (&doors, &login);
    join_all(nodes.iter().map(|&node| async move {
        let slow = |what: &str| too_slow(node, what, patience);
        let host = timeout_at(due, through(doors, login(node)));
        let host = host.await.unwrap_or_else(|_| Err(slow("no login")))?;
        let shell = match node.ssh.become_root {
            true => "logged in, and sudo gave no shell",
            false => "logged in, and got no shell",
        };
        timeout_at(due, host.run(&[], false)).await.unwrap_or_else(|_| Err(slow(shell)))?;
        Ok(host)
    }))
    .await
}

/// Waits for its turn, and stands in others' way no longer than logins take where anybody answers.
async fn through<T>(doors: &Semaphore, login: impl Future<Output = T>) -> T {
    let mut login = pin!(login);
    {
        // Never closed, so this cannot fail; without a permit the login would merely not wait.
        let _permit = doors.acquire().await;
        if let Ok(done) = timeout(LOGIN, &mut login).await {
            return done;
        }
    }
    login.await
}

/// So many, as far as there are any.
fn permits(at_once: usize) -> Semaphore {
    Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))
}

fn too_slow(node: &Node, what: &str, limit: Duration) -> HostError {
    let why = format!("{what} within {:.1} s", limit.as_secs_f64());
    HostError::Connect { host: node.name.clone(), kind: ConnectKind::Slow, at: At::Host, why }
}

/// Runs all, so many at a time, and keeps their order.
async fn all<T>(tasks: impl IntoIterator<Item = impl Future<Output = T>>, at_once: usize) -> Vec<T> {
    let permits = &permits(at_once);
    join_all(tasks.into_iter().map(|task| async move {
        // Never closed, so this cannot fail; without a permit the task would merely not wait.
        let _permit = permits.acquire().await;
        task.await
    }))
    .await
}

fn not_connected(name: &NodeName) -> HostError {
    let why = "it was not connected to".into();
    HostError::Connect { host: name.clone(), kind: ConnectKind::Other, at: At::Host, why }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use async_trait::async_trait;

    use super::*;
    use crate::{
        host::{Forward, Op, Output},
        manifests::testing,
    };

    /// A host that is only a name.
    struct Named(NodeName);

    #[async_trait]
    impl Host for Named {
        fn name(&self) -> &NodeName {
            &self.0
        }

        async fn run(&self, _: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
            Ok(Vec::new())
        }

        async fn forward(&self, _: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
            Err(not_connected(&self.0))
        }
    }

    fn names(all: &[&str]) -> Vec<NodeName> {
        all.iter().map(|name| NodeName::new(*name)).collect()
    }

    fn fleet(all: &[&str], concurrency: usize) -> Fleet {
        let host = |name| Arc::new(Named(name)) as Arc<dyn Host>;
        Fleet::new(names(all).into_iter().map(host).collect(), concurrency)
    }

    #[tokio::test]
    async fn every_host_has_its_own_outcome_in_the_order_asked_for() {
        let fleet = fleet(&["a", "b", "c"], 2);
        let results = fleet
            .for_each(&names(&["c", "gone", "b", "a"]), |host| async move {
                match host.name().as_str() {
                    "b" => Err(HostError::Sudo { host: host.name().clone(), why: "no".into() }),
                    name => Ok(name.to_owned()),
                }
            })
            .await;
        let shown: Vec<String> = results
            .into_iter()
            .map(|(name, result)| format!("{name}: {}", result.unwrap_or_else(|error| error.to_string())))
            .collect();
        assert_eq!(
            shown,
            [
                "c: c",
                "gone: could not connect to gone: it was not connected to",
                "b: could not become root on b: no",
                "a: a",
            ]
        );
    }

    /// The cluster `ha` with more nodes like its first, named by number.
    fn nodes(count: usize) -> Vec<Node> {
        let first = &testing::ha().nodes[0];
        (0..count).map(|n| Node { name: NodeName::new(n.to_string()), ..first.clone() }).collect()
    }

    /// Twenty hosts that take calls and say nothing, before three that answer: eight at a time would never get there.
    #[tokio::test(start_paused = true)]
    async fn hosts_that_hang_cost_their_own_time_and_no_others() {
        let nodes = nodes(23);
        let login = |node: &Node| {
            let name = node.name.clone();
            async move {
                match name.as_str().parse::<usize>() {
                    Ok(0..20) => std::future::pending().await,
                    _ => Ok(Named(name)),
                }
            }
        };
        let began = Instant::now();
        let entered = enter(&nodes.iter().collect::<Vec<_>>(), 8, PATIENCE, login).await;
        assert_eq!(began.elapsed(), PATIENCE);
        for (n, result) in entered.into_iter().enumerate() {
            match result {
                Ok(host) => assert!(n >= 20, "{}", host.name()),
                Err(error) => {
                    let expected = format!("could not connect to {n}: no login within 14.0 s");
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }

    /// PAM waits, a directory service is away: the login stands, and that is told.
    #[tokio::test(start_paused = true)]
    async fn a_slow_sudo_is_told_as_such() {
        struct Slow(Named);
        #[async_trait]
        impl Host for Slow {
            fn name(&self) -> &NodeName {
                self.0.name()
            }

            async fn run(&self, _: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
                std::future::pending().await
            }

            async fn forward(&self, to: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
                self.0.forward(to).await
            }
        }
        for (become_root, expected) in [
            (true, "could not connect to 0: logged in, and sudo gave no shell within 5.0 s"),
            (false, "could not connect to 0: logged in, and got no shell within 5.0 s"),
        ] {
            let mut nodes = nodes(1);
            nodes[0].ssh.become_root = become_root;
            let login = |node: &Node| {
                let name = node.name.clone();
                async { Ok(Slow(Named(name))) }
            };
            let entered = enter(&[&nodes[0]], 8, Duration::from_secs(5), login).await.remove(0);
            assert_eq!(entered.err().unwrap().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn no_more_work_at_once_than_allowed() {
        let all = ["a", "b", "c", "d", "e", "f", "g"];
        for (allowed, expected) in [(0, 1), (1, 1), (3, 3), (100, 7), (usize::MAX, 7)] {
            let fleet = fleet(&all, allowed);
            let (now, most) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
            let work = |_| async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, SeqCst);
                Ok(())
            };
            assert_eq!(fleet.for_each(&names(&all), work).await.len(), all.len());
            assert_eq!(most.load(SeqCst), expected);
        }
    }
}
