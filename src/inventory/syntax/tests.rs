//! Each grammar as a table of what it takes and what it refuses.

use super::*;

fn check<T>(parse: impl Fn(&str) -> Result<T, Fault>, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(parse(text).is_ok(), "{text:?} is refused: {:?}", parse(text).err());
    }
    for text in bad {
        assert!(parse(text).is_err(), "{text:?} is taken");
    }
}

#[test]
fn durations() {
    let millis = |text| duration(text).map(|d| d.as_millis()).ok();
    let table = [
        ("0", 0),
        ("100ms", 100),
        ("30s", 30_000),
        ("5m", 300_000),
        ("8h", 28_800_000),
        ("1h30m", 5_400_000),
        ("14d", 1_209_600_000),
        ("1d12h", 129_600_000),
    ];
    for (text, expected) in table {
        assert_eq!(millis(text), Some(expected), "{text}");
    }
    check(
        duration,
        &[],
        &[
            "",
            "5",
            "m",
            "5w",
            "366d",
            "5 m",
            "-5m",
            "1.5h",
            "5m5",
            "5M",
            "99999999999999999999h",
            "9999999999999999h",
            "9000h",
        ],
    );
}

#[test]
fn sizes() {
    let table = [
        ("1B", 1),
        ("2kB", 2_000),
        ("3KiB", 3 << 10),
        ("512MiB", 512 << 20),
        ("8GiB", 8 << 30),
        ("8 GiB", 8 << 30),
    ];
    for (text, expected) in table {
        assert_eq!(size(text).ok(), Some(expected), "{text}");
    }
    check(
        size,
        &[],
        &["", "8", "GiB", "8G", "-8GiB", "1.5GiB", "99999999999999999999B", "99999999999999GiB"],
    );
}

#[test]
fn names() {
    let label = "a".repeat(63);
    check(
        node_name,
        &["m1", "1", "a-b", &label],
        &["", "-a", "a-", "A", "a_b", "a.b", "localhost", "ä", &"a".repeat(64)],
    );
    check(
        dns_name,
        &["cluster.local", "a"],
        &["", ".", "a..b", "a.", "A.b", &format!("{0}.{0}.{0}.{0}.a", "a".repeat(63))],
    );
    check(user, &["ops", "_x", "ops@example.org", "a-b.c"], &["", "-o", "a b", "a;b", "1a", "a\n"]);
}

#[test]
fn addresses() {
    let bad = [
        "",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "10.0.0.256",
        "10.0.0",
        "-x",
        "a b",
        "a/b",
        "a:1",
    ];
    check(host, &["10.0.0.1", "fd00::1", "Node.example.org", "localhost", "127.0.0.1"], &bad);
    assert_eq!(host("Node.Example.org").ok().as_deref(), Some("node.example.org"));
    check(ssh_host, &["10.0.0.1", "fd00::1", "Node.example.org", "prod_Node-1", "_x"], &bad);
    assert_eq!(ssh_host("prod_Node-1").ok().as_deref(), Some("prod_Node-1"));
    check(
        internal_address,
        &["10.0.0.1"],
        &["fd00::1", "127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "m1", "010.0.0.1"],
    );
    check(alternative_name, &["*.example.org", "10.0.0.1"], &["*", "*.10.0.0.1", "**.a", "a.*"]);
    check(
        subnet,
        &["10.244.0.0/16", "10.0.0.0/8"],
        &["10.244.0.0", "10.244.1.0/16", "10.0.0.0/33", "fd00::/64", "a/8"],
    );
}

#[test]
fn labels_and_taints() {
    check(
        qualified_name,
        &["zone", "a.b_c-d", "example.org/Zone"],
        &["", "/a", "a/", "a/b/c", "-a", "Example.org/a", "a b"],
    );
    check(label_value, &["", "a", "A.b_c-1"], &["-a", "a-", "a b", "a/b", &"a".repeat(64)]);
    let taints = ["a:NoSchedule", "a=b:NoExecute", "example.org/a=:PreferNoSchedule"];
    check(
        taint,
        &taints,
        &["", "a", "a=b", ":NoSchedule", "=b:NoSchedule", "a:noschedule", "a=b=c:NoSchedule"],
    );
    for text in &taints[..2] {
        assert_eq!(taint(text).unwrap().to_string(), *text);
    }
}

#[test]
fn urls() {
    let good = ["http://10.77.0.1:8080", "https://mirror.example.org/a/b/", "http://[fd00::1]:80/x"];
    let bad = [
        "",
        "mirror",
        "ftp://a",
        "http://",
        "https:///a",
        "http://a b",
        "http://u:p@a",
        "http://a/?q",
        "http://a:0",
        "http://a:x",
        "http://a/$(id)",
        "http://[x]",
    ];
    check(url, &good, &bad);
    assert_eq!(url("https://a.example/b/").ok().as_deref(), Some("https://a.example/b"));
}

#[test]
fn no_grammar_panics_on_any_text() {
    use proptest::prelude::*;
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in ".{0,40}")| {
        let _ = (duration(&text), size(&text), host(&text), taint(&text), url(&text), is_authority(&text));
        let _ = (subnet(&text), alternative_name(&text), user(&text), qualified_name(&text), node_name(&text));
    });
}
