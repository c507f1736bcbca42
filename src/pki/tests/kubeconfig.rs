//! Kubeconfigs as text, there and back, and texts that are none.

use proptest::prelude::*;

use super::fixture;
use crate::{
    host::Op,
    pki::{
        files::{Server, kubelet_conf, kubelet_kubeconfig},
        inspect::inspect,
        kubeconfig::{Credential, Kubeconfig},
        pem,
    },
    secret::Secret,
};

fn admin() -> Kubeconfig {
    Kubeconfig {
        cluster: "prod".into(),
        server: "https://k8s.example.org:6443".into(),
        ca: "authority\n".into(),
        user: "kubernetes-admin".into(),
        credential: Credential::Embedded { cert: "certificate\n".into(), key: Secret::new("key\n") },
    }
}

fn text(kubeconfig: &Kubeconfig) -> String {
    String::from_utf8(kubeconfig.render().expose().to_vec()).unwrap()
}

#[test]
fn as_kubeadm_writes_them() {
    insta::assert_snapshot!("admin", text(&admin()));
    let node = fixture::node(9, "w1", &[]);
    let server = Server { cluster: "prod", url: "https://127.0.0.1:6443", ca: "authority\n" };
    let kubelet = kubelet_kubeconfig(&node, &server);
    insta::assert_snapshot!("kubelet", text(&kubelet));
    let Op::Put(file) = kubelet_conf(&node, &server) else { panic!("not a file") };
    assert_eq!((file.data, file.mode), (kubelet.render(), 0o600));
}

#[test]
fn there_and_back() {
    let files = Credential::Files { cert: "/a.crt".into(), key: "/a.key".into() };
    for kubeconfig in [admin(), Kubeconfig { credential: files, ..admin() }] {
        assert_eq!(Kubeconfig::parse(&text(&kubeconfig)).unwrap(), kubeconfig);
    }
}

#[test]
fn the_current_context_of_several_is_read_and_unknown_fields_are_skipped() {
    let other = text(&admin())
        .replace("clusters:\n", "clusters:\n- {name: old, cluster: {server: 'https://old:6443', insecure-skip-tls-verify: true}}\n")
        .replace("users:\n", "users:\n- {name: old, user: {token: t, username: x}}\n")
        .replace("contexts:\n", "contexts:\n- {name: old, context: {cluster: old, user: old, namespace: n}}\n");
    let other = format!("{other}preferences: {{}}\nextensions: []\n");
    assert_eq!(Kubeconfig::parse(&other).unwrap(), admin());
}

#[test]
fn what_is_no_kubeconfig_is_refused_without_quoting_it() {
    let good = text(&admin());
    let cases = [
        (String::new(), "kubeconfig without a current context"),
        ("- sesame".to_owned(), "not a kubeconfig"),
        ("users: sesame".to_owned(), "not a kubeconfig"),
        (good.replace("current-context: ", "current-context: x"), "kubeconfig without a current context"),
        (good.replace("  name: prod", "  name: sesame"), "kubeconfig without its context's cluster"),
        (good.replace("- name: kubernetes-admin", "- name: sesame"), "kubeconfig without its context's user"),
        (
            good.replace("certificate-authority-data", "certificate-authority"),
            "kubeconfig without an embedded",
        ),
        (good.replace("client-key-data", "token"), "kubeconfig without a client certificate and its key"),
        (
            good.replace("client-key-data: ", "client-key-data: '%' # "),
            "kubeconfig with unreadable client key",
        ),
    ];
    for (text, expected) in cases {
        let error = Kubeconfig::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(body in "\\PC{0,200}", der in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(Kubeconfig::parse(&body));
        for label in ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let encoded = pem::encode(label, &der);
            prop_assert_eq!(pem::first(&encoded, label), Some(der.clone()));
            drop(inspect(&encoded));
            drop(inspect(&format!("-----BEGIN {label}-----{body}-----END {label}-----")));
            drop(pem::pkcs8_candidates(&Secret::new(encoded)));
        }
        prop_assert_eq!(pem::sec1_from_p256(&der), None);
    }
}
