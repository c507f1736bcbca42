//! What scripts call of a host's tools, whose versions are the host's own.

use super::{Place, said};
use crate::exec::scripts::INSTALL;

/// SELinux's labels go along with what is moved.
#[test]
fn a_program_gets_the_label_of_its_place() {
    let place = Place::new();
    place.put("mirror/loopback", "#!/bin/sh\n");
    let sum = crate::plan::sha256(b"#!/bin/sh\n");
    place.put("mirror/loopback.sha256", &format!("{sum}  loopback\n"));
    let (mirror, log, target) = (place.path("mirror"), place.path("labelled"), place.path("bin/loopback"));
    let host = format!(
        "curl() {{ cp \"{}/${{@: -1}}\" \"${{@: -2:1}}\"; }}\nrestorecon() {{ ls \"$2\" >> {}; }}",
        mirror.display(),
        log.display()
    );
    let target = target.display().to_string();
    let args = ["install", "cni", "loopback", "loopback.sha256", target.as_str()];
    let output = place.run(&format!("{host}\n{}", INSTALL.text), &args);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text("labelled"), format!("{target}\n"));
}
