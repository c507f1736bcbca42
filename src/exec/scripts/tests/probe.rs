//! The script that listens so that others can dial, with programs in place of the host's.

use super::{Place, said};
use crate::exec::scripts::PROBE;

/// A host whose kubelet listens on 10250. What is to listen opens its ports in turn, as in OPENS.
const HOST: &str = r#"
echo 10250 > PORTS
ss() { grep -x "${2##*:}" PORTS; }
nft() { :; }
systemctl() { return 3; }
systemd-socket-activate() { :; }
setsid() { echo "$*" > ASKED; OPENS; }
"#;

/// What the script printed after its note of who listens, and which ports were open when it ended.
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
    let mut told = printed.lines().filter(|line| !line.starts_with("drops "));
    assert!(told.next().is_some_and(|line| line.starts_with("listener ")), "{printed}");
    (told.collect(), place.text("ports"), place.text("asked"))
}

/// Else who dials the port that is opened last is refused, and a path without a fault is called broken. That a port of the
/// host's own listens says nothing of ours.
#[test]
fn nobody_is_called_before_all_ports_listen() {
    let (told, open, asked) = listen("echo 2379 >> PORTS; sleep 0.3; echo 2380 >> PORTS; sleep 2");
    assert_eq!((&*told, &*open), ("", "10250\n2379\n2380\n"));
    assert!(asked.contains("-l 10.0.0.1:2379 -l 10.0.0.1:2380 sleep"), "{asked}");
}

#[test]
fn a_port_that_cannot_be_listened_on_is_told() {
    let (told, open, _) = listen("echo 2379 >> PORTS");
    assert_eq!((&*told, &*open), ("deaf 2380", "10250\n2379\n"));
}
