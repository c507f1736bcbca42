//! The script that listens so that others can dial, with programs in place of the host's.

use std::process::{Command, Stdio};

use super::{Place, said};
use crate::exec::scripts::{HANG_UP, PROBE};

/// A host whose kubelet listens on 10250. What is to listen opens its ports in turn, as in OPENS.
const HOST: &str = r#"
echo 10250 > PORTS
ss() { grep -x "${2##*:}" PORTS; }
nft() { :; }
systemctl() { return 3; }
systemd-socket-activate() { :; }
setsid() { [ "$1" = timeout ] || return; echo "$*" > ASKED; OPENS; }
"#;

/// What the script printed, and which ports were open when it ended.
fn listen(opens: &str) -> (String, String, String) {
    let place = Place::new();
    let (ports, asked) = (place.path("ports"), place.path("asked"));
    let host = HOST
        .replace("OPENS", opens)
        .replace("PORTS", &ports.display().to_string())
        .replace("ASKED", &asked.display().to_string());
    let args = ["probe", "10.0.0.1", "no", "", "", "2379", "2380", "10250"];
    let output = place.run(&format!("{host}{}", PROBE.text), &args);
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let told = printed.lines().filter(|line| !line.starts_with("drops "));
    let told = told.map(|line| if line.starts_with("listener ") { "listener " } else { line });
    (told.collect(), place.text("ports"), place.text("asked"))
}

/// Else who dials the port that is opened last is refused, and a path without a fault is called broken. That a port of the
/// host's own listens says nothing of ours.
#[test]
fn nobody_is_called_before_all_ports_listen() {
    let (told, open, asked) = listen("echo 2379 >> PORTS; sleep 0.3; echo 2380 >> PORTS; sleep 2");
    assert_eq!((&*told, &*open), ("listener ", "10250\n2379\n2380\n"));
    assert!(asked.contains("-l 10.0.0.1:2379 -l 10.0.0.1:2380 sleep"), "{asked}");
}

/// And no listener, where it has ended over that: nobody has to hang up, and nothing is known of it later.
#[test]
fn a_port_that_cannot_be_listened_on_is_told() {
    let (told, open, _) = listen("echo 2379 >> PORTS");
    assert_eq!((&*told, &*open), ("deaf 2380", "10250\n2379\n"));
}

/// What listens stands in the way of what is to listen there, so it outlives no run.
#[test]
fn what_listens_ends_with_the_shell_of_its_connection() {
    let place = Place::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let host = "nft() { :; }\nsystemctl() { return 3; }\nss() { [ ! -e OPEN ] || echo open; }\nexport RSADM_SHELL=$1; shift\n"
        .replace("OPEN", &place.path("open").display().to_string());
    place.program(
        "systemd-socket-activate",
        &format!("#!/bin/sh\n: > {}\nexec sleep 60\n", place.path("open").display()),
    );
    let mut shell = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let text = format!("PATH={}:$PATH\n{host}{}", place.path("bin").display(), PROBE.text);
    let output = place.run(&text, &["probe", &shell.id().to_string(), "127.0.0.1", "no", "", "", &port]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let listener = printed.lines().find_map(|line| line.strip_prefix("listener ")).unwrap();
    let lives = || std::fs::read(format!("/proc/{listener}/cmdline")).is_ok_and(|words| !words.is_empty());
    assert!(lives(), "{printed}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    // Whoever waits in vain here is ended by the tests' own limit.
    while lives() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn hanging_up_tells_where_nothing_listened_any_more() {
    let hang_up = |pid: u32| {
        let output = Place::new().run(HANG_UP.text, &["hang-up", &pid.to_string()]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let place = Place::new();
    place.program("systemd-socket-activate", "#!/bin/sh\nexec sleep 60\n");
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    let mut listener = Command::new("timeout")
        .args(["60", "systemd-socket-activate", "-l", "1"])
        .env("PATH", path)
        .spawn()
        .unwrap();
    assert_eq!(hang_up(listener.id()), (true, String::new()));
    assert!(!listener.wait().unwrap().success());
    // A number that another process has by now.
    assert_eq!(hang_up(std::process::id()), (true, "gone\n".to_owned()));
    assert_eq!(hang_up(listener.id()), (true, "gone\n".to_owned()));
}
