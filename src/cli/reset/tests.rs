//! What is told and asked, and that nothing is wiped whose quorum is lost meanwhile.

use std::{
    io,
    sync::{Arc, Mutex},
};

use clap::Parser;
use time::OffsetDateTime;

use super::*;
use crate::{
    cli::{Cli, Interrupt},
    exec::{self, lock},
    fake::{State, World, shape},
    host::{At, ConnectKind},
    layout,
    manifests::testing,
    observe::gather,
    phases::{self, UP},
    ui::{Settings, Ui, lines::Style},
};

/// A test has no terminal.
fn context(typed: &str) -> Context {
    let options = Cli::parse_from(["rsadm", typed, "reset"]).options;
    Context::new(options, Ui::new(Settings::default(), io::sink(), io::sink()), Interrupt::default())
}

/// Three hosts of etcd, as `up` leaves them, whose members give nobody their list.
async fn three_members() -> (Arc<World>, Cluster) {
    let mut cluster = testing::external_etcd();
    cluster.nodes.retain(|n| n.roles == [Role::Etcd]);
    let world = World::new(State::new(&cluster));
    let (fleet, members, events) = (world.fleet(&cluster), world.members(&cluster), Events::none());
    lock::take(&fleet, "a test", Mark::Own, &events).await.unwrap();
    let (seen, now) = (gather(&cluster, &fleet).await.unwrap(), OffsetDateTime::now_utc());
    let (plan, _) = phases::plan(UP, &cluster, seen.clone(), now, |_| true).unwrap();
    let cx = exec::Context::new(&cluster, &fleet, &members, &events, seen, now, &|| false);
    exec::execute(&cx, &plan).await.unwrap();
    for node in &cluster.nodes {
        let key = format!("{}/healthcheck-client.key", layout::ETCD_PKI_DIR);
        world.inner().state.machine(&node.name).files.remove(&key);
    }
    (world, cluster)
}

/// Others may fail or leave while somebody thinks about the answer.
#[tokio::test(start_paused = true)]
async fn whose_quorum_would_be_lost_is_asked_again_under_the_locks() {
    for (part, is_refused) in [(&["e2", "e3"][..], true), (&["e3"], false)] {
        let (world, mut cluster) = three_members().await;
        cluster.nodes.retain(|n| part.contains(&n.name.as_str()));
        let context = context("--yes");
        let session = Session::of(&context, cluster.clone(), world.fleet(&cluster));
        let before = shape(&world.state());
        let result = wipe(&session, "reset part.yaml", " part.yaml", Consent::NONE, &mut vec![]).await;
        let is_unchanged = shape(&world.state()) == before;
        match result {
            Err(error) => {
                assert_eq!((error.kind(), is_refused, is_unchanged), (Exit::Refused, true, true), "{part:?}");
                assert!(error.message().contains("would leave etcd 1 of 3 voters"), "{}", error.message());
            }
            Ok(changed) => assert!(!is_refused && changed > 0 && !is_unchanged, "{part:?}"),
        }
    }
}

/// A test has no terminal, so that a question ends in a mistake on the command line.
#[test]
fn who_is_left_behind_is_told_once_with_a_question_or_without() {
    for (typed, answer) in [("--yes", Ok(())), ("--quiet", Err(Exit::Usage))] {
        for (beside, told) in [(Beside::Unknown, 1), (Beside::Nobody, 0)] {
            let context = context(typed);
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&warnings);
            let events = Events::new(move |event| sink.lock().unwrap().push(event));
            let asked = ask(&context, &events, &beside, "", "prod").map_err(|e| e.kind());
            assert_eq!(asked, answer, "{typed}");
            let warnings = warnings.lock().unwrap();
            assert_eq!(warnings.len(), told, "{typed}: {warnings:?}");
            let is_it = |event| matches!(event, &Event::Warning { phase: None, .. });
            assert!(warnings.iter().all(is_it), "{typed}: {warnings:?}");
        }
    }
}

#[test]
fn a_schedule_that_stays_is_told_at_the_end() {
    assert_eq!(closing(0, 1, 0), "nothing of rsadm is on 1 host");
    assert_eq!(
        closing(0, 1, 1),
        "nothing of rsadm is on 1 host, but for the schedule of snapshots on 1 host"
    );
    assert_eq!(closing(3, 3, 0), "3 hosts as before");
}

fn silent() -> HostError {
    let (host, kind, why) =
        (NodeName::new("e3"), ConnectKind::Unreachable, "Connection\ntimed out".to_owned());
    HostError::Connect { host, kind, at: At::Host, why }
}

#[test]
fn what_is_left_is_told_and_how_to_go_on() {
    let failed = CliError::new(Exit::StepFailed, "1 step failed on e2");
    let told = |failed, silent: &[HostError]| {
        let error = unfinished(failed, silent, "reset prod.yaml").unwrap();
        assert_eq!(error.kind(), Exit::StepFailed);
        error.text(Style { color: false })
    };
    insta::assert_snapshot!(told(Some(&failed), &[silent()]), @r"
    error: the reset is not complete
      1 step failed on e2
      e3 keeps what it has: could not connect to e3: Connection timed out
      hint: rsadm reset prod.yaml does what is left once the cause is mended; a host that is gone for good can be taken out of the inventory
    ");
    let one = told(Some(&failed), &[]);
    assert!(one.contains("e2") && !one.contains("e3"), "{one}");
    let other = told(None, &[silent()]);
    assert!(other.contains("e3 keeps what it has") && !other.contains("e2"), "{other}");
    let json = serde_json::to_value(unfinished(None, &[silent()], "reset").unwrap().json()).unwrap();
    assert_eq!((&json["not_reached"][0]["host"], &json["exit_code"]), (&json!("e3"), &json!(6)));
}

#[test]
fn a_reset_that_was_complete_or_refused_is_not_called_unfinished() {
    assert!(unfinished(None, &[], "reset").is_none());
    for kind in [Exit::Refused, Exit::Interrupted] {
        let error = CliError::new(kind, "another error that says more");
        assert!(unfinished(Some(&error), &[silent()], "reset").is_none(), "{kind:?}");
    }
}
