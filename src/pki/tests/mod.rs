//! What holds across the files of this module: the whole table for whole clusters, and certificates from making to
//! judging. Keys are made while the tests run; RSA and SEC 1 keys by `ssh-keygen`, which comes with ssh itself.

use std::{collections::BTreeSet, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    authorities::Ca,
    files,
    inspect::{CertInfo, days_left, inspect},
    issue::{Authority, BACKDATE, CA_VALIDITY, Issued, LEAF_VALIDITY, service_account_keys},
    kubeconfig::{Credential, Kubeconfig},
    leaf::{LeafSpec, Place, Usage},
    specs::{spec_for, specs_for},
    verdict::{Reason, Verdict, verdict},
};
use crate::{
    host::Op,
    inventory::{Cluster, Node},
    secret::Secret,
};

mod fixture;
mod kubeconfig;
mod table;

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00 UTC);

fn ha() -> (Cluster, Node) {
    let (_, cluster) = fixture::topologies().swap_remove(0);
    let node = cluster.nodes[0].clone();
    (cluster, node)
}

fn spec(name: &str) -> LeafSpec {
    let (cluster, node) = ha();
    spec_for(&cluster, &node, name).unwrap()
}

#[test]
fn what_is_issued_for_every_line_of_the_table_is_kept() {
    let (cluster, node) = ha();
    let authorities = Ca::ALL.map(|ca| Authority::make(ca, NOW).unwrap());
    let mut fingerprints = BTreeSet::new();
    for spec in specs_for(&cluster, &node) {
        let authority = authorities.iter().find(|a| a.ca() == spec.ca).unwrap();
        let issued = authority.issue(&spec, NOW).unwrap();
        let info = inspect(&issued.cert).unwrap();
        assert_eq!(
            verdict(&spec, Some(&info), Some(&key_end(&issued.key)), authority.info(), NOW),
            Verdict::Keep
        );
        assert_eq!((info.not_before, info.not_after), (NOW - BACKDATE, NOW + LEAF_VALIDITY), "{}", spec.name);
        assert_eq!(info.sans, spec.sans);
        assert!(!info.is_ca);
        assert_eq!(info.authority_key_id, authority.info().subject_key_id);
        assert!(info.authority_key_id.is_some());
        assert!(fingerprints.insert(info.fingerprint), "{} is somebody else's", spec.name);
        // Back from the files, too, as another run would find them.
        let server = files::Server {
            cluster: &cluster.name,
            url: "https://10.0.0.1:6443",
            ca: &authority.files().cert,
        };
        let ops = files::leaf(&spec, &issued, &server);
        let written = ops.iter().filter_map(|op| match op {
            Op::Put(file) => Some(std::str::from_utf8(file.data.expose()).unwrap()),
            _ => None,
        });
        let found = written.filter_map(|text| read_back(&spec.place, text)).next().unwrap();
        assert_eq!(found, inspect(&issued.cert).unwrap());
    }
}

/// Reads the certificate back from the file at [`Place::cert_path`]; `None` in another one.
fn read_back(place: &Place, text: &str) -> Option<CertInfo> {
    match place {
        Place::Pair { .. } | Place::Bundle { .. } => inspect(text).ok(),
        Place::Kubeconfig { .. } => match Kubeconfig::parse(text).ok()?.credential {
            Credential::Embedded { cert, .. } => inspect(&cert).ok(),
            Credential::Files { .. } => None,
        },
    }
}

/// What a host tells of a key, by `facts.sh` itself; empty where it tells nothing.
fn key_end(key: &Secret) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki/of.key");
    std::fs::create_dir(dir.path().join("pki")).unwrap();
    std::fs::write(&path, key.expose()).unwrap();
    let facts = crate::observe::parser::SCRIPT.text;
    let script = facts.replace("K=/etc/kubernetes ", &format!("K={} ", dir.path().display()));
    assert_ne!(script, facts);
    let out = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let start = format!("key {} ", path.display());
    said.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
}

#[test]
fn authorities_are_valid_for_ten_years_and_survive_a_round_trip() {
    for ca in Ca::ALL {
        let made = Authority::make(ca, NOW).unwrap();
        assert!(made.info().is_ca && made.info().is_signed_by(made.info()));
        assert_eq!(
            (made.info().common_name.as_str(), made.info().not_after),
            (ca.common_name(), NOW + CA_VALIDITY)
        );
        assert!(made.files().key.expose().starts_with(b"-----BEGIN EC PRIVATE KEY-----\n"));
        let loaded = Authority::load(ca, made.files().clone()).unwrap();
        assert_eq!((loaded.info(), loaded.files()), (made.info(), made.files()));
    }
}

/// Of whatever is not one whole key on P-256 the end may be secret.
#[test]
fn what_is_no_whole_key_on_p256_tells_nothing() {
    let pem = |der: &[u8]| {
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    };
    let filled = |head: &[u8], length: usize| [head, &vec![7; length - head.len()]].concat();
    // SEC 1 and PKCS#8 on P-256; the same lengths of PKCS#8 on P-224, and of SEC 1 on a larger curve.
    let (sec1, pkcs8) =
        (filled(&[0x30, 0x77, 2, 1, 1, 4], 121), filled(&[0x30, 0x81, 0x87, 2, 1, 0, 0x30, 0x13], 138));
    let (p224, large) = (filled(&[0x30, 0x78, 2, 1, 0], 122), filled(&[0x30, 0x81, 0x87, 2, 1, 1], 138));
    let halves = pem(&filled(&[0x30, 0x41, 2, 1, 0], 67)).repeat(2);
    let cut = pem(&pkcs8)[..28 + 164].to_owned();
    assert_eq!(key_end(&Secret::new(pem(&sec1))).len(), 88);
    assert_eq!(key_end(&Secret::new(pem(&pkcs8))).len(), 88);
    for text in [pem(&p224), pem(&large), halves, cut] {
        assert_eq!(key_end(&Secret::new(text.as_str())), "", "{text}");
    }
}

/// A private key in the form that `format` names (`PEM`: PKCS#1 or SEC 1; `PKCS8`), made by OpenSSH.
fn foreign_key(kind: &str, bits: &str, format: &str) -> Secret {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-b", bits, "-m", format, "-N", "", "-f"])
        .arg(&path)
        .status()
        .expect("ssh-keygen, of the package openssh-client");
    assert!(status.success());
    Secret::new(std::fs::read(path).unwrap())
}

#[test]
fn authorities_with_keys_of_other_programs_sign() {
    let cases = [
        ("rsa", "2048", "PEM", "RSA PRIVATE KEY"),
        ("rsa", "2048", "PKCS8", "PRIVATE KEY"),
        ("ecdsa", "256", "PEM", "EC PRIVATE KEY"),
        ("ecdsa", "256", "PKCS8", "PRIVATE KEY"),
        ("ecdsa", "384", "PEM", "EC PRIVATE KEY"),
        ("ecdsa", "384", "PKCS8", "PRIVATE KEY"),
    ];
    for (kind, bits, format, label) in cases {
        let key = foreign_key(kind, bits, format);
        let head = format!("-----BEGIN {label}-----");
        assert!(key.expose().starts_with(head.as_bytes()), "{kind} {bits} {format} is no {label}");
        let end = key_end(&key);
        let made = Authority::make_with(Ca::Cluster, key, NOW).unwrap();
        // Of all others the end is secret.
        assert_eq!(!end.is_empty(), bits == "256", "{kind} {bits} {format}");
        assert_eq!(made.info().is_of_key(&end), bits == "256", "{kind} {bits} {format}");
        let loaded = Authority::load(Ca::Cluster, made.files().clone()).unwrap();
        let issued = loaded.issue(&spec("apiserver"), NOW).unwrap();
        assert!(inspect(&issued.cert).unwrap().is_signed_by(made.info()), "{kind} {bits} {format}");
    }
}

#[test]
fn an_authority_that_cannot_sign_says_why_and_shows_no_key() {
    let good = Authority::make(Ca::Cluster, NOW).unwrap();
    let other = Authority::make(Ca::Cluster, NOW).unwrap();
    let leaf = good.issue(&spec("apiserver"), NOW).unwrap();
    let (cert, key) = (good.files().cert.clone(), good.files().key.clone());
    let small = foreign_key("rsa", "1024", "PEM");
    let cases = [
        (cert.clone(), other.files().key.clone(), "do not belong together"),
        (leaf.cert, leaf.key, "kube-apiserver is not an authority"),
        (cert.clone(), Secret::new("no key"), "no unencrypted private key"),
        (cert.clone(), Secret::new(vec![0xff, 0xfe]), "no unencrypted private key"),
        (
            cert.clone(),
            Secret::new("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"),
            "not an RSA key",
        ),
        (cert, small, "not an RSA key of 2048 bits"),
        (String::new(), key.clone(), "read the certificate of the cluster CA"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            key,
            "read the certificate",
        ),
    ];
    for (cert, key, expected) in cases {
        let error = Authority::load(Ca::Cluster, Issued { cert, key }).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let late = good.issue(&spec("apiserver"), NOW + CA_VALIDITY + Duration::SECOND).unwrap_err();
    assert_eq!(late.to_string(), "sign with the cluster CA: it expired on 2036-02-27");
    let foreign = good.issue(&spec("etcd-peer"), NOW).unwrap_err();
    assert_eq!(foreign.to_string(), "sign with the cluster CA: etcd-peer is signed by the etcd CA");
    assert!(!format!("{good:?} {:?}", good.files()).contains("PRIVATE KEY"));
}

/// As kubelets get them by `--cluster-signing-duration`, here from an authority that ends in so many days.
#[test]
fn whether_a_kubelet_is_late_is_told_by_the_life_of_its_certificate() {
    for (life, in_time, late) in [(365, 328, 330), (30, 26, 28)] {
        let founded = NOW + Duration::days(if life == 30 { 30 } else { 3650 }) - CA_VALIDITY;
        let issued =
            Authority::make(Ca::Cluster, founded).unwrap().issue(&spec("kubelet-client"), NOW).unwrap();
        let info = inspect(&issued.cert).unwrap();
        let is_overdue = |age: i64| info.is_overdue(NOW + Duration::days(age));
        assert_eq!((is_overdue(in_time), is_overdue(late)), (false, true), "{life}");
    }
}

#[test]
fn what_has_just_ended_has_a_day_less_than_none() {
    let hours = |n: i64| days_left(NOW, NOW + Duration::hours(n));
    assert_eq!([-25, -1, 0, 1, 24, 25].map(hours), [1, 0, 0, -1, -1, -2]);
}

#[test]
fn a_certificate_ends_no_later_than_its_authority() {
    let authority = Authority::make(Ca::Cluster, NOW).unwrap();
    let issued = authority.issue(&spec("apiserver"), NOW + CA_VALIDITY - Duration::DAY).unwrap();
    assert_eq!(inspect(&issued.cert).unwrap().not_after, authority.info().not_after);
}

#[test]
fn an_alias_that_is_no_dns_name_is_in_no_certificate() {
    let (cluster, mut node) = ha();
    let mut names = |address: &str| {
        node.address = address.into();
        spec_for(&cluster, &node, "apiserver").unwrap().sans
    };
    let (alias, name) = (names("prod_M1"), names("Node.example.org"));
    assert!(name.contains(&"node.example.org".into()), "{name:?}");
    assert_eq!(name.difference(&alias).count(), 1, "{alias:?}");
}

#[test]
fn verdicts() {
    let authority = Authority::make(Ca::Cluster, NOW).unwrap();
    let stranger = Authority::make(Ca::Cluster, NOW).unwrap();
    let wanted = spec("apiserver");
    let with = |change: fn(&mut LeafSpec)| {
        let mut spec = wanted.clone();
        change(&mut spec);
        spec
    };
    let judge_by = |signer: &Authority, has: &LeafSpec, wanted: &LeafSpec, now: OffsetDateTime| {
        let info = inspect(&signer.issue(has, NOW).unwrap().cert).unwrap();
        verdict(wanted, Some(&info), None, authority.info(), now)
    };
    let judge = |has: &LeafSpec| judge_by(&authority, has, &wanted, NOW);

    assert_eq!(judge(&wanted), Verdict::Keep);
    assert_eq!(verdict(&wanted, None, None, authority.info(), NOW), Verdict::Issue(Reason::Missing));
    let end = NOW + LEAF_VALIDITY;
    assert_eq!(judge_by(&authority, &wanted, &wanted, end), Verdict::Keep);
    assert_eq!(
        judge_by(&authority, &wanted, &wanted, end + Duration::SECOND),
        Verdict::Issue(Reason::Expired(end))
    );
    assert_eq!(
        judge_by(&authority, &wanted, &wanted, NOW - Duration::DAY),
        Verdict::Keep,
        "a late clock here"
    );

    let other = judge(&with(|s| s.common_name = "eve".into()));
    let Verdict::Issue(reason) = other else { panic!("{other:?}") };
    assert_eq!(reason.to_string(), "issued to eve, not to kube-apiserver");
    assert_ne!(judge(&with(|s| s.organization = Some("system:masters"))), Verdict::Keep);

    let few =
        judge(&with(|s| s.sans.retain(|san| *san != "k8s.example.org".into() && *san != "192.0.2.7".into())));
    let Verdict::Issue(reason) = few else { panic!("{few:?}") };
    assert_eq!(reason.to_string(), "does not name k8s.example.org, 192.0.2.7");
    assert_eq!(judge(&with(|s| s.sans.extend(["old.example.org".into()]))), Verdict::Keep, "a name too many");

    assert_eq!(
        judge(&with(|s| s.usages = &[Usage::Client])),
        Verdict::Issue(Reason::UsagesMissing([Usage::Server].into()))
    );
    assert_eq!(judge(&with(|s| s.usages = &[Usage::Client, Usage::Server])), Verdict::Keep);

    assert_eq!(
        judge_by(&stranger, &wanted, &wanted, end + Duration::DAY),
        Verdict::ForeignCa { issuer: "kubernetes".into() },
        "same name, other key; and foreign before expired"
    );
    let kubelet = spec("kubelet-server");
    assert_eq!(
        judge_by(&stranger, &kubelet, &kubelet, NOW),
        Verdict::Issue(Reason::OtherIssuer("kubernetes".into()))
    );

    let info = inspect(&authority.issue(&wanted, NOW).unwrap().cert).unwrap();
    let other_key = key_end(&authority.files().key);
    assert_eq!(
        verdict(&wanted, Some(&info), Some(&other_key), authority.info(), NOW),
        Verdict::Issue(Reason::OtherKey)
    );
}

#[test]
fn a_certificate_is_no_authority() {
    let authority = Authority::make(Ca::Cluster, NOW).unwrap();
    let leaf = authority.issue(&spec("apiserver"), NOW).unwrap();
    let info = inspect(&leaf.cert).unwrap();
    assert!(!info.is_signed_by(&info));
    assert!(!authority.info().is_signed_by(&info));
}

#[test]
fn the_first_certificate_of_a_text_is_read_whatever_surrounds_it() {
    let authority = Authority::make(Ca::Cluster, NOW).unwrap();
    let leaf = authority.issue(&spec("kubelet-client"), NOW).unwrap();
    let key = std::str::from_utf8(leaf.key.expose()).unwrap();
    let info = inspect(&leaf.cert).unwrap();
    let crlf = leaf.cert.replace('\n', "\r\n");
    let texts = [
        format!("{}{key}", leaf.cert),
        format!("{key}{}{}", leaf.cert, authority.files().cert),
        format!("# a\n{crlf}"),
    ];
    for text in texts {
        assert_eq!(inspect(&text).as_ref(), Ok(&info));
    }
    assert_eq!(info.pem(), leaf.cert);
}

#[test]
fn service_account_keys_are_a_pair_of_their_own() {
    let (one, two) = (service_account_keys().unwrap(), service_account_keys().unwrap());
    assert_ne!(one, two);
    assert!(one.public.starts_with("-----BEGIN PUBLIC KEY-----\n"));
    let lines: String = one.public.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(lines.ends_with(&key_end(&one.private)), "{lines}");
}
