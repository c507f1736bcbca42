//! How etcd members are reached from the workstation: through a forwarded port of the host's own SSH connection, with
//! the client certificate that kubeadm keeps for such questions on every etcd host.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use time::OffsetDateTime;
use tokio::{
    sync::{Mutex, OnceCell},
    time::timeout,
};

use super::scripts;
use crate::{
    etcd::{
        Cause, EtcdApi, EtcdError, Silence,
        client::{Credentials, DEADLINE, Dial, Dialled, EtcdClient, dial, served_not_after},
        upkeep::Upkeep,
    },
    host::{Forward, Host, Op, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Identity, replaced},
    secret::Secret,
};

/// A host that may run a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberHost {
    /// The host.
    pub name: NodeName,
    /// Where other members dial it.
    pub peer_url: String,
    /// Where clients dial it.
    pub client_url: String,
}

/// Why a member is silent whose host could not be reached: who connects has told the cause.
pub(super) const AWAY: &str = "its host cannot be reached";

/// Why a member is silent whose host leads nobody to it; `preflight` has more room for the way out.
pub(crate) const FORBIDDEN: &str =
    "its host's sshd forwards no connection to it: AllowTcpForwarding local, or yes, in sshd_config there";

/// Ways to members.
#[async_trait]
pub trait Members: Send + Sync {
    /// Where members may be: all etcd hosts that can be asked, whatever a run is to make of them.
    fn hosts(&self) -> Vec<MemberHost>;
    /// A connection to the member on a host.
    ///
    /// # Errors
    /// See [`Silence`].
    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence>;
    /// False where the host itself cannot be reached, which no etcd is to blame for.
    fn is_there(&self, _host: &NodeName) -> bool {
        true
    }
    /// IDs of clusters that a restore or a recovery has put another in the place of, as hosts have recorded it: who still
    /// serves their data is no member, however many there are of them.
    async fn old_clusters(&self) -> Vec<u64> {
        vec![]
    }
    /// A connection to a member at none of [`hosts`](Self::hosts), by where clients dial it: its host left the inventory,
    /// and the member is still one that votes.
    ///
    /// # Errors
    /// As in [`dial`](Self::dial).
    async fn dial_stranger(&self, client_url: &str) -> Result<Box<dyn EtcdApi>, Silence> {
        Err(format!("{client_url} is at no etcd host of the inventory").into())
    }
    /// Whether something listens there, as connected hosts see it: a member may be too busy to answer. `None` where none could try.
    async fn listens(&self, _client_url: &str) -> Option<bool> {
        None
    }
}

impl MemberHost {
    /// A host of an inventory.
    pub fn of(node: &Node) -> Self {
        Self { name: node.name.clone(), peer_url: node.peer_url(), client_url: node.client_url() }
    }
}

/// How long a host may take to tell its room: a defragmentation without it goes on unwarned.
const ROOM: Duration = Duration::from_secs(15);

/// Ways to members for commands that keep them well.
#[async_trait]
pub trait Tended: Members {
    /// As [`Members::dial`], to a member that can be asked to look after itself.
    ///
    /// # Errors
    /// See [`Silence`].
    async fn tend(&self, host: &NodeName) -> Result<Box<dyn Upkeep>, Silence>;
    /// As [`Members::dial_stranger`], to such a member.
    ///
    /// # Errors
    /// See [`Silence`].
    async fn tend_stranger(&self, client_url: &str) -> Result<Box<dyn Upkeep>, Silence> {
        Err(format!("{client_url} is at no etcd host of the inventory").into())
    }
    /// Removes what a defragmentation that did not end left beside the database of a host's member, and tells how much room there
    /// is then, as `df` has it; `None` where the host does not say.
    async fn clear_and_measure(&self, host: &NodeName) -> Option<String>;
}

/// Forwarded ports, by the host they go through and where they lead.
type Forwards = BTreeMap<(NodeName, SocketAddr), Arc<Box<dyn Forward>>>;

/// Over SSH.
pub struct SshMembers<'a> {
    cluster: &'a Cluster,
    fleet: &'a Fleet,
    deadline: Duration,
    credentials: Mutex<Option<Arc<Credentials>>>,
    forwards: Mutex<Forwards>,
    old_clusters: OnceCell<Vec<u64>>,
}

impl<'a> SshMembers<'a> {
    /// Nothing is opened before the first member is dialled.
    pub fn new(cluster: &'a Cluster, fleet: &'a Fleet) -> Self {
        Self {
            cluster,
            fleet,
            deadline: DEADLINE,
            credentials: Mutex::default(),
            forwards: Mutex::default(),
            old_clusters: OnceCell::new(),
        }
    }

    /// The same with another limit for connecting and for each call, for commands that must not keep people waiting.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same as [`Members::dial`], and when the certificate that was served expires.
    pub async fn dial_and_look(
        &self,
        host: &NodeName,
    ) -> (Result<Box<dyn EtcdApi>, Silence>, Option<OffsetDateTime>) {
        match self.dialled(host).await {
            Err(why) => (Err(why), None),
            Ok(dialled) => {
                let client = dialled.client.map(|c| Box::new(c) as Box<dyn EtcdApi>);
                (client.map_err(Silence::from), dialled.served_not_after)
            }
        }
    }

    /// When the certificate expires that the member on a host serves to other members; `None` where that was not seen.
    pub async fn look_at_peer_port(&self, name: &NodeName) -> Option<OffsetDateTime> {
        let (node, host) = (self.cluster.node(name)?, self.fleet.host(name)?);
        let to = (node.internal_address, layout::ETCD_PEER_PORT);
        let credentials = self.credentials(host).await.ok()?;
        let forward = self.forward(host, to.into()).await.ok()?;
        let wanted = Dial {
            endpoint: format!("{name} ({}:{})", to.0, to.1),
            address: forward.local(),
            server_name: to.0.to_string(),
            deadline: self.deadline,
        };
        served_not_after(&wanted, &credentials).await
    }

    /// The connection itself, for what only a real member has: its snapshot.
    ///
    /// # Errors
    /// See [`Silence`].
    pub async fn client(&self, host: &NodeName) -> Result<EtcdClient, Silence> {
        Ok(self.dialled(host).await?.client?)
    }

    async fn dialled(&self, name: &NodeName) -> Result<Dialled, Silence> {
        let node = self.cluster.node(name).ok_or("not in the inventory")?;
        let host = self.fleet.host(name).ok_or(AWAY)?;
        let to = (node.internal_address, layout::ETCD_CLIENT_PORT);
        self.dialled_through(host, to, format!("{name} ({}:{})", to.0, to.1)).await
    }

    async fn dialled_through(
        &self,
        host: &Arc<dyn Host>,
        to: (Ipv4Addr, u16),
        endpoint: String,
    ) -> Result<Dialled, Silence> {
        let credentials = self.credentials(host).await?;
        let forward = self.forward(host, to.into()).await?;
        let wanted = Dial {
            endpoint,
            address: forward.local(),
            server_name: to.0.to_string(),
            deadline: self.deadline,
        };
        let dialled = dial(&wanted, &credentials).await;
        match &dialled.client {
            Err(_) if forward.is_forbidden().await => Err(Silence::of(Cause::Forbidden, FORBIDDEN)),
            Err(EtcdError::Untrusted { .. }) => {
                Ok(self.with_others_credentials(&wanted, &credentials).await.unwrap_or(dialled))
            }
            _ => Ok(dialled),
        }
    }

    /// A member that was refused, or refused us, dialled with what other hosts have: files of one host may be another
    /// cluster's, or have expired, and say nothing about the member then. What lets us in is kept for the next ones.
    async fn with_others_credentials(&self, wanted: &Dial, failed: &Credentials) -> Option<Dialled> {
        for host in self.keepers() {
            let Ok(Ok(others)) = timeout(self.deadline, read_credentials(host)).await else { continue };
            if others == *failed {
                continue;
            }
            let dialled = dial(wanted, &others).await;
            if dialled.client.is_ok() {
                *self.credentials.lock().await = Some(Arc::new(others));
                return Some(dialled);
            }
        }
        None
    }

    async fn forward(&self, host: &Arc<dyn Host>, to: SocketAddr) -> Result<Arc<Box<dyn Forward>>, Silence> {
        let key = (host.name().clone(), to);
        let kept = self.forwards.lock().await.get(&key).cloned();
        if let Some(forward) = kept
            && forward.leads().await
        {
            return Ok(forward);
        }
        // Unlocked meanwhile, so that a host that hangs holds up no other.
        let forward = Arc::new(host.forward(to).await.map_err(|e| e.to_string())?);
        self.forwards.lock().await.insert(key, forward.clone());
        Ok(forward)
    }

    /// Connected hosts through which a stranger may be dialled: its own first, where it only lost its role, then etcd
    /// hosts, which have the client certificate.
    fn ways(&self, to: Ipv4Addr) -> Vec<&Arc<dyn Host>> {
        let own = self.cluster.nodes.iter().filter(|n| n.internal_address == to);
        let others = self.cluster.with_role(Role::Etcd).filter(|n| n.internal_address != to);
        own.chain(others).filter_map(|n| self.fleet.host(&n.name)).collect()
    }

    async fn stranger(&self, client_url: &str) -> Result<EtcdClient, Silence> {
        let to = address(client_url).ok_or_else(|| format!("{client_url} names no IPv4 address"))?;
        let mut silence = Silence::from("no etcd host of the inventory is connected");
        for host in self.ways(to.0) {
            let dialled = self.dialled_through(host, to, client_url.to_owned()).await;
            let Silence { cause, why } = match dialled.and_then(|d| d.client.map_err(Silence::from)) {
                Ok(client) => return Ok(client),
                Err(silence) => silence,
            };
            // Who came to it and was not let in knows more than who did not get there.
            if told_of_it(cause) >= told_of_it(silence.cause) {
                silence = Silence::of(cause, format!("{why} (through {})", host.name()));
            }
        }
        Err(silence)
    }

    async fn recorded_old_clusters(&self) -> Vec<u64> {
        let asked = join_all(self.keepers().map(|host| async move {
            let read = [Op::Read(layout::IDENTITY.to_owned())];
            let outputs = timeout(self.deadline, host.run(&read, true)).await.ok()?.ok()?;
            serde_json::from_slice::<Identity>(&outputs.first()?.stdout).ok()
        }));
        let identities: Vec<Identity> = asked.await.into_iter().flatten().collect();
        replaced(identities.iter()).into_iter().filter_map(|id| u64::from_str_radix(id, 16).ok()).collect()
    }

    /// Any etcd host's will do while all is well: one authority signed them all. Another's where this one has none.
    async fn credentials(&self, host: &Arc<dyn Host>) -> Result<Arc<Credentials>, Silence> {
        let mut kept = self.credentials.lock().await;
        if let Some(credentials) = kept.as_ref() {
            return Ok(credentials.clone());
        }
        let mut read = read_credentials(host).await;
        for other in self.keepers().filter(|other| other.name() != host.name()) {
            if read.is_ok() {
                break;
            }
            read = timeout(self.deadline, read_credentials(other)).await.unwrap_or(read);
        }
        let credentials = Arc::new(read?);
        *kept = Some(credentials.clone());
        Ok(credentials)
    }

    /// Hosts that have credentials, as far as they are connected.
    fn keepers(&self) -> impl Iterator<Item = &Arc<dyn Host>> {
        self.cluster.with_role(Role::Etcd).filter_map(|n| self.fleet.host(&n.name))
    }
}

/// How much a silence tells of a member that is dialled through several hosts.
fn told_of_it(cause: Cause) -> u8 {
    match cause {
        Cause::Other => 0,
        Cause::Late => 1,
        Cause::Forbidden => 2,
        Cause::Certificate { .. } => 3,
        Cause::Denied => 4,
    }
}

/// What a host has to ask etcd with.
async fn read_credentials(host: &Arc<dyn Host>) -> Result<Credentials, Silence> {
    let files = ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"];
    let ops = files.map(|f| Op::Read(format!("{}/{f}", layout::ETCD_PKI_DIR)));
    let outputs = host.run(&ops, false).await.map_err(|e| e.to_string())?;
    let lacks = |what| Err(Silence::of(Cause::Certificate { early: false }, format!("has no etcd {what}")));
    let [ca, certificate, key] = &outputs[..] else { return lacks("certificates") };
    if !key.ok() {
        return lacks("client key");
    }
    Ok(Credentials {
        ca: ca.stdout.clone(),
        certificate: certificate.stdout.clone(),
        key: Secret::new(key.stdout.clone()),
    })
}

#[async_trait]
impl Members for SshMembers<'_> {
    fn hosts(&self) -> Vec<MemberHost> {
        self.cluster.with_role(Role::Etcd).map(MemberHost::of).collect()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        self.dial_and_look(host).await.0
    }

    fn is_there(&self, host: &NodeName) -> bool {
        self.fleet.host(host).is_some()
    }

    async fn old_clusters(&self) -> Vec<u64> {
        self.old_clusters.get_or_init(|| self.recorded_old_clusters()).await.clone()
    }

    async fn dial_stranger(&self, client_url: &str) -> Result<Box<dyn EtcdApi>, Silence> {
        Ok(Box::new(self.stranger(client_url).await?))
    }

    async fn listens(&self, client_url: &str) -> Option<bool> {
        let to = address(client_url)?;
        super::dial::is_open(&self.ways(to.0), to).await
    }
}

/// Where a client URL leads.
fn address(client_url: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = client_url.strip_prefix("https://")?.trim_end_matches('/').split_once(':')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

#[async_trait]
impl Tended for SshMembers<'_> {
    async fn tend(&self, host: &NodeName) -> Result<Box<dyn Upkeep>, Silence> {
        Ok(Box::new(self.client(host).await?))
    }

    async fn tend_stranger(&self, client_url: &str) -> Result<Box<dyn Upkeep>, Silence> {
        Ok(Box::new(self.stranger(client_url).await?))
    }

    async fn clear_and_measure(&self, host: &NodeName) -> Option<String> {
        let ask = [Op::Script(scripts::COPY_ROOM, vec![], ROOM)];
        let answer = self.fleet.host(host)?.run(&ask, false).await.ok()?.pop()?;
        answer.ok().then(|| answer.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_urls_lead_to_addresses() {
        assert_eq!(address("https://10.0.0.9:2379"), Some(([10, 0, 0, 9].into(), 2379)));
        assert_eq!(address("https://10.0.0.9:2379/"), Some(([10, 0, 0, 9].into(), 2379)));
        assert_eq!(
            ["https://etcd.example:2379", "http://10.0.0.9:2379", "10.0.0.9", ""].map(address),
            [None; 4]
        );
    }
}
