//! Snapshots in a bucket, against a server that speaks S3: `tests/lab/bucket`, which is to be installed before.

#![expect(clippy::unwrap_used, reason = "a test may stop at what should not be")]

use std::{
    collections::BTreeMap,
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use tempfile::{TempDir, tempdir};

use rsadm::{
    backup::{Check, Manifest, file, place::Place},
    line::chain,
};

struct Server {
    process: Child,
    address: SocketAddr,
    /// While there is a file `locked` in it, nothing may be removed, and nothing read while there is one `hidden`.
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server with a bucket, for who signs with its key.
fn server() -> Server {
    let (address, folder) = (free_address(), tempdir().unwrap());
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bucket"));
    command.args(["serve", "127.0.0.1", &address.port().to_string(), "snapshots", "backup:secret"]);
    command.args(["locked", "hidden"].map(|name| folder.path().join(name)));
    let process = command.stdout(Stdio::null()).spawn().unwrap();
    let mut server = Server { process, address, folder };
    while request(address, "GET /uploads").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
        assert!(server.process.try_wait().unwrap().is_none(), "it ended");
        thread::sleep(Duration::from_millis(100));
    }
    server
}

/// One that nothing else is given before a server listens there: neither another one nor, as an ephemeral port would be, who dials.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + 100 * u16::try_from(process::id() % 200).unwrap();
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100).take(100);
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

fn request(address: SocketAddr, what: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head =
        format!("{what} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn place(server: &Server, bucket: &str) -> Place {
    signed(server, bucket, "backup", "secret")
}

fn signed(server: &Server, bucket: &str, key: &str, secret: &str) -> Place {
    let settings = [
        ("aws_access_key_id", key.to_owned()),
        ("aws_secret_access_key", secret.to_owned()),
        ("aws_region", "us-east-1".to_owned()),
        ("aws_endpoint", format!("http://{}", server.address)),
        ("aws_allow_http", "true".to_owned()),
    ];
    let settings: BTreeMap<String, String> = settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Place::open(bucket, &settings).unwrap()
}

fn manifest(name: &str, size: u64, minute: i64) -> Manifest {
    let taken_at = time::OffsetDateTime::from_unix_timestamp(1_800_000_000 + minute * 60).unwrap();
    Manifest {
        format: 1,
        file: name.to_owned(),
        cluster: "prod".to_owned(),
        cluster_id: "1".to_owned(),
        member: "m1".to_owned(),
        member_id: "2".to_owned(),
        revision: 7,
        etcd: "3.7.3".to_owned(),
        kubernetes: None,
        taken_at,
        size,
        sha256: String::new(),
        carries: vec![],
        encrypted: false,
        without_quorum: false,
        check: Some(Check::Restored),
        doubt: None,
        damaged: None,
        of_sick_member: false,
    }
}

#[tokio::test]
async fn a_bucket_keeps_lists_gives_back_and_removes() {
    let server = server();
    let place = place(&server, "s3://snapshots/etcd/prod");
    assert_eq!(place.list().await.unwrap(), []);
    let folder = tempdir().unwrap();
    // The second is sent in several parts.
    for (name, size, minute) in [("small.db", 1000, 1), ("large.db", 20 << 20, 2)] {
        let path = folder.path().join(name);
        let bytes: Vec<u8> = (0..size).map(|i: usize| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        place.put(&path, &manifest(name, size as u64, minute), pending()).await.unwrap();
    }
    let (again, path) = (manifest("small.db", 7, 3), folder.path().join("again"));
    std::fs::write(&path, "another").unwrap();
    let error = place.put(&path, &again, pending()).await.unwrap_err().to_string();
    assert_eq!(error, "small.db is in s3://snapshots/etcd/prod already, and is kept");
    let other = self::place(&server, "s3://snapshots/etcd");
    assert_eq!(other.list().await.unwrap(), [], "what lies in a folder of it is another's");
    let list = place.list().await.unwrap();
    let files: Vec<(&str, u64)> = list.iter().map(|e| (e.file.as_str(), e.size)).collect();
    assert_eq!(files, [("large.db", 20 << 20), ("small.db", 1000)]);
    assert_eq!(list[1].manifest, Ok(manifest("small.db", 1000, 1)));
    let back = tempdir().unwrap();
    let path = place.local("large.db", back.path()).await.unwrap();
    assert_eq!(file::sum(&path).unwrap(), file::sum(&folder.path().join("large.db")).unwrap());
    assert_eq!(file::manifest_of(&path), Some(manifest("large.db", 20 << 20, 2)));
    let damaged = manifest("small.db", 1000, 1).after(Err("it was cut off".into()));
    place.describe(&damaged).await.unwrap();
    assert_eq!(place.list().await.unwrap()[1].manifest, Ok(damaged));
    let locked = server.folder.path().join("locked");
    std::fs::write(&locked, "").unwrap();
    let error = place.remove("large.db").await.unwrap_err();
    assert!(chain(&error).contains("nothing may be removed"), "{}", chain(&error));
    std::fs::remove_file(&locked).unwrap();
    place.remove("large.db").await.unwrap();
    place.remove("large.db").await.unwrap();
    assert_eq!(place.entry("large.db").await.unwrap(), None);
    assert_eq!(place.entry("small.db").await.unwrap(), Some(place.list().await.unwrap().remove(0)));
    let left: Vec<String> = place.list().await.unwrap().into_iter().map(|e| e.file).collect();
    assert_eq!(left, ["small.db"]);
}

/// A store that is not Amazon's, whose hosts need no credentials file: where it is stands in the inventory.
#[tokio::test]
async fn credentials_of_the_environment_go_with_the_endpoint_of_the_inventory() {
    let server = server();
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, vec![7; 1000]).unwrap();
    place(&server, "s3://snapshots/etcd").put(&path, &manifest("a.db", 1000, 1), pending()).await.unwrap();
    let inventory = folder.path().join("inventory.yaml");
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/etcd-only.yaml");
    let text = std::fs::read_to_string(text).unwrap().replace(
        "\netcd:\n",
        &format!(
            "\netcd:\n  backup: {{interval: 6h, retention: 4, target: s3://snapshots/etcd, region: us-east-1, endpoint: \
             \"http://{}\"}}\n",
            server.address
        ),
    );
    std::fs::write(&inventory, text).unwrap();
    let mut ls = Command::new(env!("CARGO_BIN_EXE_rsadm"));
    ls.args(["etcd", "snapshot", "ls"]).arg(&inventory);
    ls.envs([("AWS_ACCESS_KEY_ID", "backup"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let listed = ls.output().unwrap();
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(said.contains("a.db"), "{said}{}", String::from_utf8_lossy(&listed.stderr));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let server = server();
    let place = place(&server, "s3://nobodys/etcd");
    let error = place.list().await.unwrap_err();
    assert_eq!(error.to_string(), "could not list s3://nobodys/etcd");
}

/// What it would have told is whose the snapshot is, and whether it was found damaged.
#[tokio::test]
async fn a_snapshot_whose_manifest_cannot_be_read_is_not_fetched() {
    let server = server();
    let place = place(&server, "s3://snapshots/etcd/prod");
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, vec![7; 1000]).unwrap();
    place.put(&path, &manifest("a.db", 1000, 1), pending()).await.unwrap();
    let fetched = async || {
        let back = tempdir().unwrap();
        place.local("a.db", back.path()).await.map(|path| file::manifest_of(&path))
    };
    assert_eq!(fetched().await.unwrap(), Some(manifest("a.db", 1000, 1)));
    std::fs::write(server.folder.path().join("hidden"), "a.json").unwrap();
    let error = fetched().await.unwrap_err().to_string();
    assert_eq!(error, "could not get a.json from s3://snapshots/etcd/prod");
}

/// Without a manifest nothing would ever remove it, and the next run would leave another.
#[tokio::test]
async fn what_may_be_put_and_not_read_is_not_left_there() {
    let server = server();
    let place = place(&server, "s3://snapshots/etcd/prod");
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, vec![7; 1000]).unwrap();
    let switch = |name: &str| std::fs::write(server.folder.path().join(name), "").unwrap();
    switch("hidden");
    let error = chain(&place.put(&path, &manifest("a.db", 1000, 1), pending()).await.unwrap_err());
    assert!(error.contains("lack the permission to read (s3:GetObject)"), "{error}");
    assert_eq!(place.list().await.unwrap(), [], "it was left there");
    switch("locked");
    let error = chain(&place.put(&path, &manifest("a.db", 1000, 1), pending()).await.unwrap_err());
    assert!(error.contains("s3:GetObject") && error.ends_with("could not be removed again"), "{error}");
    assert_eq!(place.list().await.unwrap().len(), 1);
}

/// Its parts would be in no list, and cost money for ever.
#[tokio::test]
async fn an_upload_that_is_stopped_leaves_no_parts() {
    let server = server();
    let place = place(&server, "s3://snapshots/etcd/prod");
    let folder = tempdir().unwrap();
    let path = folder.path().join("large.db");
    std::fs::write(&path, vec![7; 40 << 20]).unwrap();
    let address = server.address;
    let under_way = move || {
        (0..2_000).any(|_| {
            thread::sleep(Duration::from_millis(5));
            uploads(address) > 0
        })
    };
    let stop =
        async { assert!(tokio::task::spawn_blocking(under_way).await.unwrap(), "no upload is listed") };
    let error = chain(&place.put(&path, &manifest("large.db", 40 << 20, 1), stop).await.unwrap_err());
    assert!(error.ends_with("it was stopped meanwhile"), "{error}");
    assert_eq!(place.list().await.unwrap(), []);
    assert_eq!(uploads(address), 0);
}

/// How many uploads of parts the store tells of that were neither completed nor aborted.
fn uploads(address: SocketAddr) -> usize {
    let answer = request(address, "GET /uploads").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.lines().last().unwrap().parse().unwrap()
}

/// The operator is told which of the two is wrong, in a sentence and not in the store's XML, and neither is shown.
#[tokio::test]
async fn a_wrong_key_is_refused_and_said_to_be_that() {
    let server = server();
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, vec![7; 1000]).unwrap();
    for (key, secret, wrong) in [
        ("backup", "not-that-secret", "the secret key is not that of the access key: AWS_SECRET_ACCESS_KEY"),
        ("nobody", "secret", "the store knows no such access key: AWS_ACCESS_KEY_ID"),
    ] {
        let place = signed(&server, "s3://snapshots/etcd/prod", key, secret);
        let listed = chain(&place.list().await.unwrap_err());
        let put = chain(&place.put(&path, &manifest("a.db", 1000, 1), pending()).await.unwrap_err());
        for (told, doing) in [(&listed, "could not list s3://"), (&put, "could not put a.db into s3://")] {
            assert!(told.starts_with(doing) && told.contains(wrong), "{told}");
            assert!(!told.contains('<') && !told.contains(secret), "{told}");
        }
    }
    assert_eq!(place(&server, "s3://snapshots/etcd/prod").list().await.unwrap(), []);
    assert_eq!(uploads(server.address), 0);
}
