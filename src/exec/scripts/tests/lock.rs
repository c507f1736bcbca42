//! The lock, where the shell of a dead run has it and is at something.

use super::{Place, said};
use crate::exec::scripts::LOCK;

/// What the shell of a killed run does, and what `lock.sh` ends with for the next run, which knows DEAD. Whoever finds the lock taken
/// waits for a second, once: the second of two operators hears at once who the first is.
fn taken(script: &str, dead: &str) -> Option<i32> {
    let place = Place::new();
    let root = place.path("run").display().to_string();
    // As remote.sh starts it, with the lock in its hand; it sleeps longer than anybody waits here.
    let shell = format!(
        "mkdir -p {root}/rsadm-lock {root}/rsadm.$$.x && exec 9<>{root}/rsadm-lock/lock && flock 9 &&\n\
         printf '%s\\n' 'a run' $$ m1 >{root}/rsadm-lock/lock\n\
         echo 'sleep 20; :' >{root}/rsadm.$$.x/{script}\n\
         timeout -k 5 -- 20 bash -- {root}/rsadm.$$.x/{script} a b </dev/null >/dev/null 2>&1\n:"
    );
    place.put("shell", &shell);
    let text = format!(
        "export RSADM_SHELL=$$\nbash -c \"$(cat {shell})\" rsadm rsadm-1 </dev/null >/dev/null 2>&1 9>&- &\nshell=$!\n\
         until pgrep -P $shell timeout >/dev/null; do sleep 0.02; done\n\
         flock() {{ echo \"$*\" >>{calls}; command flock \"$@\"; }}\n\
         (\n{lock}\n)\nstatus=$?\npkill -P $shell\nexit $status\n",
        shell = place.path("shell").display(),
        calls = place.path("calls").display(),
        lock = LOCK.text,
    );
    let output = place.run(&text, &["lock", "another run", "m1", dead]);
    assert_eq!(said(&output), "");
    let status = output.status.code();
    assert!(status != Some(75) || place.text("calls") == "-w 1 9\n", "{}", place.text("calls"));
    status
}

#[test]
fn a_dead_runs_download_is_broken_off_and_nothing_else() {
    for (script, dead, status) in [
        ("install", "a run", 0),
        ("pull", "a run", 0),
        ("install", "", 75),
        ("install", "some other", 75),
        ("apply", "a run", 75),
    ] {
        assert_eq!(taken(script, dead), Some(status), "{script} {dead}");
    }
}

/// After a lost connection, on a host that is slow to end what had the lock.
#[test]
fn who_comes_back_has_his_own_lock_again() {
    let place = Place::new();
    let root = place.path("run").display().to_string();
    // What it was at has the lock for longer than anybody else is waited for.
    let shell = format!(
        "mkdir -p {root}/rsadm-lock && exec 9<>{root}/rsadm-lock/lock && flock 9 &&\n\
         printf '%s\\n' 'a run' $$ m1 >{root}/rsadm-lock/lock\n\
         sleep 2 &\n: >{root}/begun\nwait\n"
    );
    place.put("shell", &shell);
    let text = format!(
        "export RSADM_SHELL=$$\n(bash -c \"$(cat {shell})\" rsadm rsadm-1 </dev/null >/dev/null 2>&1 9>&- &)\n\
         until [ -e /run/begun ]; do sleep 0.02; done\n{lock}",
        shell = place.path("shell").display(),
        lock = LOCK.text,
    );
    let output = place.run(&text, &["lock", "a run", "m1", "again"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
}

/// What a run hears that was away: of the line that it left, of the start at which it did, and of what is there now.
#[test]
fn who_was_away_knows_whether_anybody_came() {
    let place = Place::new();
    place.put("run/x", "");
    let lock = |args: &[&str]| {
        let text = format!("export RSADM_SHELL=$$\n{}", LOCK.text);
        let output = place.run(&text, &[&["lock"], args].concat());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (_, start) = lock(&["a run\there 1 2", "m1", "name"]);
    assert!(start.len() > 36 && start.contains('.'), "{start}");
    let goes_on = (Some(0), String::new());
    let ends = |who: &str| (Some(79), who.to_owned());
    let none = "a reset, which leaves no name";
    for (now, left, at, hears) in [
        (&["a run\there 1 2", "m1", "name"][..], "a run\there 1 2", start.as_str(), goes_on.clone()),
        (&["another\there 3 4", "m1", "name"], "a run\there 1 2", &start, ends("another")),
        (&["another\there 3 4", "m1", "name"], "a run\there 1 2", "an older start", ends("another")),
        (&["a reset", "m1", "none"], "a run\there 1 2", &start, ends(none)),
        (&["a reset", "m1", "none"], "a run\there 1 2", "an older start", goes_on.clone()),
        (&["a reset", "m1", "none"], "", &start, goes_on.clone()),
        (&["another\there 3 4", "m1", "name"], "", &start, ends("another")),
    ] {
        assert_eq!(lock(now), (Some(0), start.clone()));
        assert_eq!(lock(&[left, "m1", "kept", at]), hears, "{now:?} {left} {at}");
    }
}
