//! The scripts that start processes and wait for their end, with programs that write down what they are told.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Child, Command, Output},
};

use super::{Place, said};
use crate::{
    exec::scripts::{AWAIT_PROCESS, AWAIT_STOPPED, KEEP, UNIT},
    host::Script,
};

/// A process that runs until the test is over, with that revision.
struct Process(Child);

impl Process {
    fn with(revision: &str) -> Self {
        Self(Command::new("sleep").arg("60").env("RSADM_REVISION", revision).spawn().unwrap())
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What systemd says of the unit's process: a word of PIDS each time, and the last one from then on.
const SYSTEMD: &str = r#"
pids=(PIDS)
systemctl() {
  [ "$1" = show ] || return 0
  local n; n=$(cat DONE 2>/dev/null | wc -l); echo asked >> DONE
  [ $n -lt ${#pids[@]} ] || n=$((${#pids[@]} - 1))
  echo "${pids[n]}"
}
journalctl() { echo "journal of $1"; }
sleep() { SECONDS=$((SECONDS+3)); }
"#;

/// Runs what a script does itself, after functions in place of programs and of the scripts that it comes after.
fn run(place: &Place, script: Script, programs: &str, args: &[&str]) -> Output {
    let done = place.path("done").display().to_string();
    let args: Vec<&str> = std::iter::once(script.name).chain(args.iter().copied()).collect();
    let (_, own) = script.text.rsplit_once(&format!("# {}.sh ", script.name)).unwrap();
    place.run(&format!("{}\n# {own}", programs.replace("DONE", &done)), &args)
}

/// Answers one question after the other with these lines; its port.
fn answers(lines: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for line in lines {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 64];
            let _ = stream.read(&mut question);
            let _ = write!(stream, "{line}\r\n\r\n");
        }
    });
    port
}

fn restart(place: &Place, unit: &str, port: u16, pids: &str) -> Output {
    place.put("lib/kubelet/config.yaml", &format!("healthzPort: {port}\n"));
    run(place, UNIT, &SYSTEMD.replace("PIDS", pids), &["restart", unit, "new"])
}

#[test]
fn a_kubelet_has_to_answer_and_others_have_to_run() {
    let (new, old) = (Process::with("new"), Process::with("old"));
    let ready: &[&str] = &["HTTP/1.0 500 Internal Server Error", "HTTP/1.0 200 OK"];
    // What it is about, the unit, who answers, and whether it succeeds.
    let table = [
        ("as soon as it answers", "kubelet", answers(ready), new.id(), true),
        ("an older one answers", "kubelet", answers(ready), old.id(), false),
        ("nobody answers", "kubelet", 1, new.id(), false),
        ("nothing is asked of others", "containerd", 1, new.id(), true),
        ("another that is older", "containerd", 1, old.id(), false),
    ];
    for (about, unit, port, pids, expected) in table {
        let output = restart(&Place::new(), unit, port, &pids);
        assert_eq!(output.status.success(), expected, "{about}: {}", said(&output));
    }
}

/// A manifest that somebody edited and that was written anew brings a process of the revision that runs already. etcd's is
/// written anew once it has founded its cluster, and its process stays.
#[test]
fn a_process_from_before_its_manifest_is_waited_out_but_for_etcd() {
    for name in ["kube-apiserver", "etcd"] {
        let (place, look, _process) = process_and_manifest(&AWAIT_PROCESS, name);
        let look = format!("{look}\nruns {name} new");
        // Whether there is one, and when it was written, from now.
        for written in [None, Some("-1 hour"), Some("+1 hour")] {
            written.into_iter().for_each(|written| write_manifest(&place, name, written));
            assert!(place.run(&look, &[]).status.success(), "{name}, {written:?}");
        }
        let later = format!("date() {{ echo $(($(command date +%s) + 7200)); }}\n{look}");
        assert_eq!(
            place.run(&later, &[]).status.success(),
            name == "etcd",
            "{name} is older than its manifest"
        );
    }
}

/// What a change is taken back to, also where the manifest was touched while its process ran.
#[test]
fn the_manifest_that_a_process_runs_with_is_kept_whenever_it_was_written() {
    for name in ["kube-apiserver", "etcd"] {
        for written in ["-1 hour", "+1 hour"] {
            let (place, look, _process) = process_and_manifest(&KEEP, name);
            write_manifest(&place, name, written);
            let (_, main) = KEEP.text.rsplit_once("# keep.sh ").unwrap();
            let later = "date() { echo $(($(command date +%s) + 7200)); }";
            let kept = place.path("run/17/kept").display().to_string();
            let done = place.run(&format!("{look}\n{later}\n# {main}"), &["keep", name, &kept]);
            assert!(
                done.status.success() && place.path(&format!("run/17/kept/{name}.yaml")).is_file(),
                "{name}, {written}"
            );
        }
    }
}

/// A process of that name with the revision `new`, and the functions of a script that see it and its manifest.
fn process_and_manifest(script: &Script, name: &str) -> (Place, String, Process) {
    let (place, process) = (Place::new(), Process::with("new"));
    let (functions, _) = script.text.rsplit_once(&format!("# {}.sh ", script.name)).unwrap();
    let manifest = place.path(&format!("{name}.yaml")).display().to_string();
    let (pid, processes) = (process.id(), "processes() { pids=(");
    let look = format!("{functions}\n{processes}{pid}); }}\nmanifest_of() {{ echo {manifest}; }}");
    (place, look, process)
}

fn write_manifest(place: &Place, name: &str, when: &str) {
    let file = format!("{name}.yaml");
    place.put(&file, "    - name: RSADM_REVISION\n      value: new\n");
    assert!(Command::new("touch").args(["-d", when]).arg(place.path(&file)).status().unwrap().success());
}

#[test]
fn a_kubelet_that_ends_again_and_again_is_told_with_its_words() {
    let place = Place::new();
    // They are gone when they are looked at.
    let output = restart(&place, "kubelet", 1, "4194300 0 4194301 0 4194302 0 4194303");
    assert!(!output.status.success());
    let told = "kubelet does not run with its new files\njournal of _SYSTEMD_UNIT=kubelet.service\n";
    assert_eq!(said(&output), told);
    assert_eq!(place.text("done").lines().count(), 7, "waited on");
}

#[test]
fn a_static_pod_that_its_kubelet_does_not_end_is_asked_to() {
    // Each look takes five seconds, by the clock that the script reads.
    let programs = |pid: &str| {
        format!(
            "processes() {{ pids=(); ! command kill -0 {pid} 2>/dev/null || pids=({pid}); }}\n\
             sleep() {{ SECONDS=$((SECONDS+5)); command sleep 0.05; }}\n\
             kill() {{ echo \"kill $*\" >> DONE; WILL; }}\n"
        )
    };
    let run = |will: &str| {
        let (place, mut process) = (Place::new(), Process::with("old"));
        let id = process.id();
        // One that has ended stays visible until somebody asks for its status.
        let wait = std::thread::spawn(move || process.0.wait());
        let output = run(&place, AWAIT_STOPPED, &programs(&id).replace("WILL", will), &["etcd", "60"]);
        let _ = Command::new("kill").args(["-9", &id]).status();
        let _ = wait.join();
        (output, place.text("done"), id)
    };
    let (output, done, id) = run(r#"command kill "$@""#);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(done, format!("kill {id}\n"));
    let (output, done, id) = run(":");
    assert_eq!(said(&output), format!("etcd still runs (process {id}) after 60 s\n"));
    assert_eq!(done, format!("kill {id}\n"), "asked more than once");
}

/// As an etcd on a busy disk, which ends once that has taken what it wrote.
#[test]
fn a_reset_waits_for_processes_that_take_their_time_to_go() {
    let host = "find() { :; }\nsystemctl() { :; }\nkube_proxy_rules() { :; }\nkill() { :; }\nruntime=theirs left=() n=0\n\
        sleep() { ((++n % 10)) || SECONDS=$((SECONDS+1)); }\n";
    for (gone_after, left) in [(25, ""), (1000, "processes of pods that cannot be killed: 4194300")] {
        let place = Place::new();
        let pods = format!("pod_processes() {{ [ $SECONDS -ge {gone_after} ] || echo 4194300; }}\n");
        let said = place.wiped(&format!("{host}{pods}end_containers\nprintf '%s' \"${{left[*]}}\""));
        assert_eq!(said, left, "{gone_after}");
    }
}
