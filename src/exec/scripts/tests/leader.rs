//! Whether an etcd that runs may be stopped for a moment: restore.sh, with somebody in its place who tells its metrics.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    thread,
};

use super::Place;
use crate::exec::scripts::RESTORE;

/// What is told of the leader of that process, whose metrics are at a port.
fn leader(process: &Child, port: u16) -> String {
    let (functions, _) = RESTORE.text.split_once("\n# Once it is over nothing of it is done again").unwrap();
    let functions =
        functions.replace("127.0.0.1/2381", &format!("127.0.0.1/{port}")).replace("timeout 15", "timeout 1");
    let text = format!("{functions}\nstill=({})\nleader\n", process.id());
    String::from_utf8(Place::new().run(&text, &["restore", "test"]).stdout).unwrap()
}

/// Treats all who call so; at which port.
fn metrics(treat: fn(&mut TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut callers = Vec::new();
        for mut caller in listener.incoming().flatten() {
            let _ = caller.read(&mut [0; 64]);
            treat(&mut caller);
            // Who is said nothing waits.
            callers.push(caller);
        }
    });
    port
}

fn says(caller: &mut TcpStream, text: &str) {
    let _ = write!(caller, "HTTP/1.0 200 OK\r\n\r\n{text}\n");
    let _ = caller.shutdown(std::net::Shutdown::Both);
}

#[test]
fn only_who_says_so_has_no_leader() {
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = metrics(|_| {});
    for (about, port, told) in [
        ("with one", metrics(|c| says(c, "etcd_server_has_leader 1")), "yes"),
        ("without", metrics(|c| says(c, "etcd_server_has_leader 0")), "no"),
        ("a word before its metrics", metrics(|c| says(c, "etcd_server_is_leader 0")), "unknown"),
        ("busy", silent, "unknown"),
        ("nobody listens", nobody, "no"),
    ] {
        assert_eq!(leader(&process, port).trim(), told, "{about}");
    }
    let stop = Command::new("kill").args(["-STOP", &process.id().to_string()]).status().unwrap();
    assert!(stop.success());
    assert_eq!(leader(&process, silent).trim(), "no", "it stands still");
    process.kill().unwrap();
    process.wait().unwrap();
}
