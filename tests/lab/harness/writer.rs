//! A client that writes numbered keys the whole time, and knows afterwards which of them etcd acknowledged.

use std::collections::BTreeSet;

use super::{
    Check, Cluster, Fault, Lab, Probe, eventually,
    probe::{Samples, now},
};

/// Where the keys are.
const PREFIX: &str = "lab-test/";

/// A client at work.
pub struct Writer {
    probe: Probe,
    /// Since when it writes, with a first write acknowledged.
    since: f64,
}

/// What it wrote.
pub struct Written(Samples);

impl Writer {
    /// Starts it at the operator's, over all these hosts' members, and waits for a first acknowledged write.
    pub fn start(lab: &Lab, cluster: &Cluster<'_>, hosts: &[&str]) -> Result<Self, Fault> {
        let etcdctl = cluster.workstation_etcdctl(hosts)?;
        let put = format!("{etcdctl} put {PREFIX}$n $n");
        let probe = Probe::on_workstation(lab, &put)?;
        probe.becomes_good()?;
        Ok(Self { probe, since: now() })
    }

    /// Ends it, once a write is acknowledged that it begins from now on: what was done meanwhile has left an etcd that takes
    /// writes. Fails where none was acknowledged meanwhile.
    pub fn end(self) -> Result<Written, Fault> {
        let until = now();
        self.probe.becomes_good()?;
        let samples = self.probe.end()?;
        let meanwhile = samples.good_within((self.since, until));
        println!(
            "    {meanwhile} writes acknowledged meanwhile, at most {:.1} s apart",
            samples.longest_gap()
        );
        ensure!(meanwhile > 0, "not one write was acknowledged in {:.1} s", until - self.since);
        Ok(Written(samples))
    }
}

/// While the client writes, `work` is done; then the members on the hosts `then` get well and have all that it wrote. It
/// asks `stay`, whose members are there before and after.
pub fn under_load(
    lab: &Lab,
    (stay, then): (&[&str], &[&str]),
    work: impl FnOnce() -> Check,
    are_well: impl Fn() -> Check,
) -> Check {
    let cluster = Cluster::new(lab, stay[0]);
    let writer = Writer::start(lab, &cluster, stay)?;
    work()?;
    let written = writer.end()?;
    eventually(are_well)?;
    then.iter().try_for_each(|host| written.is_all_on(&cluster, host))?;
    written.forget(&cluster, then[0])
}

/// Numbers of the keys that the member on a host has, by its own account.
pub fn numbers_on(cluster: &Cluster<'_>, host: &str) -> Result<BTreeSet<u64>, Fault> {
    let get = format!("get --prefix {PREFIX} --keys-only --consistency=s");
    let keys = cluster.etcdctl(host, &get)?.ok()?.stdout;
    Ok(keys.lines().filter_map(|key| key.strip_prefix(PREFIX)?.parse().ok()).collect())
}

impl Written {
    /// What was begun at a moment or later.
    pub fn since(&self, moment: f64) -> Self {
        Self(self.0.since(moment))
    }

    /// What was acknowledged by a moment.
    pub fn until(&self, moment: f64) -> Self {
        Self(self.0.until(moment))
    }

    /// Passes where there is an acknowledged write and the member on a host has every one, by its own account. Who follows may
    /// be behind for a moment; what is lost stays so.
    pub fn is_all_on(&self, cluster: &Cluster<'_>, host: &str) -> Check {
        ensure!(self.0.all.iter().any(|w| w.good), "nothing was acknowledged");
        eventually(|| {
            let kept = numbers_on(cluster, host)?;
            let good = self.0.all.iter().filter(|w| w.good).map(|w| w.number);
            let lost: Vec<u64> = good.filter(|n| !kept.contains(n)).collect();
            ensure!(lost.is_empty(), "{host} lost acknowledged writes: {lost:?}");
            Ok(())
        })
    }

    /// Takes the keys away.
    pub fn forget(&self, cluster: &Cluster<'_>, host: &str) -> Check {
        eventually(|| cluster.etcdctl(host, &format!("del --prefix {PREFIX}"))?.ok().map(drop))
    }
}
