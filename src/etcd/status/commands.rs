//! The commands that advice names, as they have to be typed.

/// Starts what a kubelet runs, typed on its host: `rsadm up` is for hosts that rsadm built.
pub(super) const START_KUBELET: &str = "systemctl enable --now kubelet";

/// Renews what kubeadm issued, typed on the host.
pub(super) const KUBEADM_RENEW: &str = "kubeadm certs renew all";

/// Gives each its inventory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commands<'k> {
    /// What stands after a command that takes an inventory: a space and the file, or nothing.
    inventory: &'k str,
}

impl<'k> Commands<'k> {
    pub(super) fn new(inventory: &'k str) -> Self {
        Self { inventory }
    }

    fn of(self, command: &str) -> String {
        format!("rsadm {command}{}", self.inventory)
    }

    fn of_etcd(self, command: &str, host: &str) -> String {
        format!("{} {host}", self.of(&format!("etcd {command}")))
    }

    /// Puts back what is missing.
    pub(super) fn up(self) -> String {
        self.of("up")
    }

    /// Tells of every host why it cannot be used, and what helps.
    pub(super) fn preflight(self) -> String {
        self.of("preflight")
    }

    /// The same of a schedule of snapshots alone, beside an etcd that somebody else built.
    pub(super) fn backups(self) -> String {
        format!("{} --only backups", self.up())
    }

    /// Makes a host a member.
    pub(super) fn add(self, host: &str) -> String {
        self.of_etcd("add", host)
    }

    /// Takes a member out.
    pub(super) fn remove(self, host: &str) -> String {
        self.of_etcd("remove", host)
    }

    /// Gives a member the data of the others, which takes a quorum.
    pub(super) fn replace(self, host: &str) -> String {
        self.of_etcd("replace", host)
    }

    /// Goes on to the version of the inventory.
    pub(super) fn upgrade(self) -> String {
        self.of("etcd upgrade")
    }

    /// Makes room in databases, and takes alarms of it back.
    pub(super) fn defrag(self) -> String {
        self.of("etcd defrag")
    }

    /// Takes alarms back whose cause is gone.
    pub(super) fn disarm(self) -> String {
        self.of("etcd alarm disarm")
    }

    /// Compares what members hold, whatever that costs.
    pub(super) fn compare(self) -> String {
        format!("{} --compare", self.of("etcd status"))
    }

    /// Keeps what the member on a host has, whatever cluster it is of.
    pub(super) fn save_from(self, host: &str) -> String {
        format!("{} --member {host}", self.of("etcd snapshot save"))
    }

    /// Makes a cluster of the survivors.
    pub(super) fn recover(self) -> String {
        self.of("etcd recover")
    }

    /// Shows what survivors have, and changes nothing.
    pub(super) fn diagnose(self) -> String {
        format!("{} --diagnose", self.recover())
    }

    /// Makes a cluster of a snapshot, which is to be named after it.
    pub(super) fn restore(self) -> String {
        self.of("etcd restore")
    }

    /// Puts back the data from before a restore or a recovery.
    pub(super) fn roll_back(self) -> String {
        format!("{} --rollback", self.restore())
    }

    /// Issues certificates anew.
    pub(super) fn renew(self) -> String {
        self.of("certs renew")
    }

    /// Tells what certificates are like.
    pub(super) fn certificates(self) -> String {
        self.of("certs status")
    }
}
