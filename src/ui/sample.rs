//! A run for tests of what it looks like.

use std::time::Duration;

use crate::{
    event::{Event, Failure, Next},
    inventory::NodeName,
    plan::{
        Action, HostWork, Mode, Plan, Stage, Step,
        standing::{self, Serves},
    },
};

/// A first `up` of three hosts, with a warning that comes before its stage is done.
pub(crate) fn run() -> Vec<Event> {
    let w2 = || NodeName::new("w2");
    let done = |phase, text: &str, millis| Event::StageDone {
        phase,
        text: text.into(),
        elapsed: Duration::from_millis(millis),
    };
    let started = |phase, title: &str| Event::StageStarted { phase, title: title.into(), hosts: vec![w2()] };
    let step = |text: &str, changed| Event::StepDone {
        phase: "workers",
        host: w2(),
        text: text.into(),
        changed,
        elapsed: Duration::from_millis(80),
    };
    vec![
        Event::RunStarted {
            cluster: "prod".into(),
            summary: "3 control planes, 2 workers, Kubernetes v1.37.2".into(),
        },
        started("preflight", "checking 5 hosts"),
        Event::Warning {
            phase: Some("preflight"),
            host: Some(w2()),
            text: "swap is on; kubelet is told to tolerate it".into(),
            help: Some("swapoff -a".into()),
        },
        Event::Warning {
            phase: Some("preflight"),
            host: None,
            text: "clocks differ by 140 ms between m1 and m3, and\netcd wants less than 100 ms".into(),
            help: Some("install chrony or systemd-timesyncd on both".into()),
        },
        done("preflight", "62 checks on 5 hosts, 20 paths between them", 640),
        started("workers", "joining w2"),
        Event::StepStarted { phase: "workers", host: w2(), text: "start kubelet".into() },
        step("started kubelet", true),
        step("taints are as wanted", false),
        done("workers", "w2 joined, through a local load balancer", 18_900),
        Event::Finished {
            text: "5 nodes Ready".into(),
            changed: 41,
            elapsed: Duration::from_millis(41_600),
            next: vec![
                Next::new("rsadm kubeconfig > ~/.kube/config", "then: kubectl get nodes"),
                Next::new("rsadm etcd status", "etcd can lose 1 of 3 members"),
            ],
        },
    ]
}

/// A step that failed, with all that can be said of it.
pub(crate) fn failure() -> Event {
    Event::StepFailed(Failure {
        phase: "control-plane",
        host: Some(NodeName::new("m2")),
        step: "kube-apiserver did not become ready within 120 s".into(),
        cause: Some("/etc/kubernetes/pki/etcd/ca.crt on m2 is not the CA of this cluster".into()),
        likely: Some("certificates of two clusters have been mixed up".into()),
        collected: vec![
            "container exited 1, 4 times; its last words:".into(),
            "  \"x509: certificate signed by unknown authority\x1b[2J\"".into(),
        ],
        log: Some("/home/ops/.local/state/rsadm/prod/m2.log".into()),
        state: state(),
        next: "rsadm up; it goes on where it stopped".into(),
    })
}

/// Where API servers are started anew one after the other, and the second does not come back.
fn state() -> Vec<String> {
    let stage = |host: &str| {
        let action = Action::AwaitApi { url: format!("https://{host}:6443") };
        let steps = vec![Step::new(Action::Sysctl, ""), Step::new(action, "")];
        Stage {
            phase: "control-plane",
            title: format!("new settings on {host}"),
            mode: Mode::Parallel,
            gated: false,
            beside: false,
            work: vec![HostWork { host: NodeName::new(host), steps }],
        }
    };
    let plan = Plan { stages: ["m1", "m2", "m3"].map(stage).into(), ..Plan::default() };
    let etcd = ["m1", "m2", "m3"].map(|host| (NodeName::new(host), Serves::Yes));
    let mut servers = etcd.clone();
    servers[1].1 = Serves::No;
    standing::state(&plan, 1..2, &[NodeName::new("m2")], &etcd, &servers)
}

/// The end of a run that found nothing to do.
pub(crate) fn in_sync() -> Event {
    Event::Finished {
        text: "in sync: 5 hosts, 212 things checked, nothing to change".into(),
        changed: 0,
        elapsed: Duration::from_millis(700),
        next: vec![],
    }
}
