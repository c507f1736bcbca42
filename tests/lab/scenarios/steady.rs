//! What holds of every cluster that is as its inventory says: nothing is pending, and another run changes nothing.

use crate::harness::{Check, Fault, Footprint, Inventory, Lab, Outcome, Processes, eventually};

/// `plan` has nothing to do, and says so by its exit code.
///
/// A controller manager or scheduler that led, and whose API server or etcd was away for longer than its lease, ends, maybe
/// after `up` has seen it, and is started anew by its kubelet. A node that was away takes a moment to be Ready. A
/// plan that only waits, or could not log in, is made again; one that has a change to make fails at once.
pub fn settles(lab: &Lab, inventory: &Inventory) -> Check {
    settles_by(|| lab.rsadm_on("plan", inventory))
}

/// The same by a plan that is made so.
pub fn settles_by(mut plan: impl FnMut() -> Result<Outcome, Fault>) -> Check {
    let last = eventually(|| {
        let plan = plan()?;
        // Where it could not ask, all of Kubernetes counts as missing.
        let knows = plan.says("no API server answered").is_err();
        // Or a host was too busy to let it in.
        let waits = plan.code == 4 || (plan.code == 0 && plan.says("in sync: ").is_err());
        ensure!(!waits && (plan.code != 7 || knows), "it is not settled: {}", plan.all());
        Ok(plan)
    })?;
    last.ok()?.says("in sync: ")
}

/// `up` says that nothing was to change, and no file and no process is another one afterwards.
pub fn second_up_changes_nothing(lab: &Lab, inventory: &Inventory) -> Check {
    let hosts = inventory.all_hosts();
    let (files, processes) = (Footprint::of_ours(lab, &hosts)?, Processes::of(lab, &hosts)?);
    let up = lab.rsadm_on("up", inventory)?.ok()?;
    files.is_still(&Footprint::of_ours(lab, &hosts)?)?;
    let new = Processes::of(lab, &hosts)?.new_since(&processes);
    ensure!(new.is_empty(), "started anew: {new:?}");
    up.says("nothing to change")
}

/// All that kubeadm keeps an eye on in a cluster with stacked etcd: the leaves, and the authorities.
pub const CERTIFICATES: [&str; 14] = [
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
    "scheduler.conf",
    "super-admin.conf",
    "ca",
    "etcd-ca",
    "front-proxy-ca",
];

/// kubeadm on a control plane knows just these certificates there, and complains of nothing.
pub fn kubeadm_lists(lab: &Lab, host: &str, certificates: &[&str]) -> Check {
    let script = "cd /tmp && curl -fsSO http://10.77.0.1:8080/dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubeadm \
        && chmod 755 kubeadm && ./kubeadm certs check-expiration; code=$?; rm -f kubeadm; exit $code";
    // While no API server answers it goes by what it would do itself, and says so.
    let said = eventually(|| {
        let said = lab.on(host, script)?.ok()?;
        said.says_nothing_of("Falling back to default configuration")?;
        Ok(said)
    })?;
    let listed: Vec<&str> = said.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in CERTIFICATES {
        let is_listed = listed.contains(&name);
        ensure!(is_listed == certificates.contains(&name), "{name} is listed: {is_listed}: {}", said.all());
    }
    for complaint in ["MISSING", "invalid", "WARNING", "could not"] {
        said.says_nothing_of(complaint)?;
    }
    // As klog has it: W, month and day.
    let warns = |line: &str| {
        line.strip_prefix('W').and_then(|l| l.get(..4)).is_some_and(|day| day.parse::<u16>().is_ok())
    };
    ensure!(!said.all().lines().any(warns), "it warns: {}", said.all());
    Ok(())
}

/// `reset` leaves what was there before the first `up`.
pub fn reset_leaves_nothing(lab: &Lab, inventory: &Inventory, bare: &Footprint) -> Check {
    lab.rsadm_on("reset --yes", inventory)?.ok()?;
    bare.is_still(&Footprint::of_what_is_left(lab, &inventory.all_hosts())?)
}

/// What is typed on a host that kubeadm shall join. All that it may complain of is the kernel that nodes share, where that has cgroup v1
/// alone, or shows its configuration nowhere.
pub fn join_command(lab: &Lab, inventory: &Inventory, host: &str) -> Result<String, Fault> {
    let join = lab.rsadm_on("token create --print-join-command --ttl 10m", inventory)?.text()?;
    let checks = join.replacen("kubeadm join", "kubeadm join phase preflight", 1);
    let checked = lab.verb(&["ssh", host, &checks])?;
    let of_kernel = |error: &str| {
        error.starts_with("[ERROR SystemVerification]: ")
            && (error.contains("cgroups v1 support") || error.contains("failed to parse kernel config"))
    };
    let all = checked.all();
    let errors: Vec<&str> =
        all.lines().map(str::trim_start).filter(|line| line.starts_with("[ERROR ")).collect();
    ensure!(checked.code == 0 || !errors.is_empty(), "kubeadm's checks: {all}");
    ensure!(errors.iter().all(|error| of_kernel(error)), "kubeadm complains: {errors:#?}");
    Ok(if errors.is_empty() { join } else { format!("{join} --ignore-preflight-errors=SystemVerification") })
}
