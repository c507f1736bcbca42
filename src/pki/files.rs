//! How authorities, certificates and kubeconfigs lie on a host, as operations to do there.

use std::time::Duration;

use crate::{
    host::{Cmd, Op, RemoteFile},
    inventory::Node,
    layout,
    pki::{
        authorities::{self, Holding},
        issue::{Issued, Keys},
        kubeconfig::{Credential, Kubeconfig},
        leaf::{LeafSpec, Place},
        specs::system_node,
    },
    secret::Secret,
};

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Puts what a host holds of an authority. The key goes first: a certificate is then proof that its key is there too.
pub fn authority(holding: Holding, files: &Issued) -> Vec<Op> {
    let key = holding.key.then(|| put(holding.ca.key_path(), PRIVATE, files.key.clone()));
    let cert = put(holding.ca.cert_path(), PUBLIC, Secret::new(files.cert.as_str()));
    key.into_iter().chain([cert]).collect()
}

/// Puts the pair that signs service account tokens.
pub fn service_account(keys: &Keys) -> Vec<Op> {
    vec![
        put(authorities::service_account_key_path(), PRIVATE, keys.private.clone()),
        put(authorities::service_account_public_path(), PUBLIC, Secret::new(keys.public.as_str())),
    ]
}

/// What a certificate that lies in a kubeconfig needs besides itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// `https://HOST:PORT`.
    pub url: &'a str,
    /// The cluster CA's certificate, PEM.
    pub ca: &'a str,
}

/// Puts a certificate and its key where its line of the table says. `server` matters to kubeconfigs alone.
pub fn leaf(spec: &LeafSpec, issued: &Issued, server: &Server<'_>) -> Vec<Op> {
    match &spec.place {
        Place::Pair { cert, key } => vec![
            put(key.clone(), PRIVATE, issued.key.clone()),
            put(cert.clone(), PUBLIC, Secret::new(issued.cert.as_str())),
        ],
        Place::Bundle { path, link } => {
            let both = [issued.cert.as_bytes(), issued.key.expose()].concat();
            vec![put(path.clone(), PRIVATE, Secret::new(both)), point(link, path)]
        }
        Place::Kubeconfig { path } => {
            let credential = Credential::Embedded { cert: issued.cert.clone(), key: issued.key.clone() };
            vec![put(path.clone(), PRIVATE, kubeconfig(&spec.common_name, credential, server).render())]
        }
    }
}

/// Puts the kubelet's kubeconfig, which names the client certificate that the kubelet rotates.
pub fn kubelet_conf(node: &Node, server: &Server<'_>) -> Op {
    put(layout::KUBELET_CONF.to_owned(), PRIVATE, kubelet_kubeconfig(node, server).render())
}

/// The kubelet's kubeconfig itself, to compare with what a host has.
pub fn kubelet_kubeconfig(node: &Node, server: &Server<'_>) -> Kubeconfig {
    let current = layout::KUBELET_CLIENT_CURRENT.to_owned();
    let credential = Credential::Files { cert: current.clone(), key: current };
    kubeconfig(&system_node(node), credential, server)
}

fn kubeconfig(user: &str, credential: Credential, server: &Server<'_>) -> Kubeconfig {
    Kubeconfig {
        cluster: server.cluster.to_owned(),
        server: server.url.to_owned(),
        ca: server.ca.to_owned(),
        user: user.to_owned(),
        credential,
    }
}

fn put(path: String, mode: u32, data: Secret) -> Op {
    Op::Put(RemoteFile { path, mode, data })
}

fn point(link: &str, target: &str) -> Op {
    Op::Run(Cmd::new(["ln", "-sfn", target, link]).timeout(Duration::from_secs(10)))
}
