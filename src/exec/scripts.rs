//! The programs that actions run on hosts: constants, with values as arguments.

#[cfg(test)]
mod tests;

use crate::host::Script;

macro_rules! script {
    ($(#[$about:meta])* $constant:ident, $name:literal) => {
        $(#[$about])*
        pub const $constant: Script =
            Script { name: $name, text: include_str!(concat!("scripts/", $name, ".sh")) };
    };
    ($(#[$about:meta])* $constant:ident, $name:literal after $($functions:literal),+) => {
        $(#[$about])*
        pub const $constant: Script = Script {
            name: $name,
            text: concat!(
                $(include_str!($functions), "\n",)+
                include_str!(concat!("scripts/", $name, ".sh"))
            ),
        };
    };
}

script!(
    /// Tries rsadm itself on the host, and records it.
    AGENT, "agent"
);
script!(
    /// Applies Kubernetes objects.
    APPLY, "apply" after "../observe/objects.sh", "scripts/kubectl.sh"
);
script!(
    /// Waits for an API server.
    AWAIT_API, "await-api"
);
script!(
    /// Waits for nodes.
    AWAIT_NODES, "await-nodes"
);
script!(
    /// Waits for a process with a revision.
    AWAIT_PROCESS, "await-process" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Tells how much room there is beside etcd's database.
    COPY_ROOM, "copy-room"
);
script!(
    /// Tells whether etcd ends for the sake of its data.
    LOST_DATA, "lost-data" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Waits until a process with a revision listens.
    AWAIT_SERVING, "await-serving" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Keeps a manifest that serves.
    KEEP, "keep" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Puts manifests back that were kept.
    PUT_BACK, "put-back" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Waits until a process is gone.
    AWAIT_STOPPED, "await-stopped" after "../observe/processes.sh"
);
script!(
    /// Points an API server at other members.
    SET_ETCD_SERVERS, "set-etcd-servers" after "../observe/processes.sh"
);
script!(
    /// Gives a member that we did not build another image.
    SET_ETCD_IMAGE, "set-etcd-image" after "../observe/processes.sh", "scripts/pods.sh"
);
script!(
    /// Moves etcd's data out of the way.
    SET_ASIDE, "set-aside" after "scripts/aside.sh"
);
script!(
    /// Moves the manifest of a member out of the way.
    MANIFEST_ASIDE, "manifest-aside"
);
script!(
    /// Dials ports of other hosts.
    DIAL, "dial"
);
script!(
    /// Makes etcd's data folder, and the system user that it belongs to.
    ETCD_DATA, "etcd-data"
);
script!(
    /// Ends what listens for the sake of being dialled.
    HANG_UP, "hang-up"
);
script!(
    /// Tries a host's disk, and listens on ports to come.
    PROBE, "probe"
);
script!(
    /// Collects what explains a failure.
    COLLECT, "collect"
);
script!(
    /// Fetches and installs a program.
    INSTALL, "install"
);
script!(
    /// Has a kubelet register.
    JOIN, "join"
);
script!(
    /// Takes the host's lock.
    LOCK, "lock"
);
script!(
    /// Labels and taints a node.
    MARK, "mark" after "scripts/kubectl.sh"
);
script!(
    /// Pulls images.
    PULL, "pull"
);
script!(
    /// Notes what was on a host before the first change.
    REMEMBER, "remember"
);
script!(
    /// What a host does of a restore of etcd.
    RESTORE, "restore" after "../observe/processes.sh", "scripts/aside.sh"
);
script!(
    /// Waits for workloads.
    ROLLOUT, "rollout"
);
script!(
    /// Applies kernel settings.
    SYSCTL, "sysctl"
);
script!(
    /// Starts, restarts or disables a unit.
    UNIT, "unit"
);
script!(
    /// Empties a host.
    WIPE, "wipe"
);
