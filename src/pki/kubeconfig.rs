//! Kubeconfigs with one cluster, one user and one context, as kubeadm writes them.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Where to dial, whom to trust, who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The cluster's name.
    pub cluster: String,
    /// `https://HOST:PORT`.
    pub server: String,
    /// The certificates that the server's is verified with, PEM.
    pub ca: String,
    /// The user's name in this file; the context is `USER@CLUSTER`.
    pub user: String,
    /// How the user proves it.
    pub credential: Credential,
}

/// How a user proves who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A client certificate and its key in the kubeconfig itself, PEM.
    Embedded {
        /// The certificate.
        cert: String,
        /// The key.
        key: Secret,
    },
    /// A client certificate and its key in files on the host that uses the kubeconfig.
    Files {
        /// The certificate's path.
        cert: String,
        /// The key's path; may be the same.
        key: String,
    },
}

/// Why a text could not be read as a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// It is not YAML, or not of a kubeconfig's form. The parser's words may quote the text, so they are not kept.
    #[error("not a kubeconfig{}", at(*line))]
    Form {
        /// Where, where known; counted from one.
        line: Option<usize>,
    },
    /// It lacks something that ours have.
    #[error("kubeconfig without {0}")]
    Lacks(&'static str),
    /// Data that is not base64, or not text.
    #[error("kubeconfig with unreadable {0}")]
    Unreadable(&'static str),
}

fn at(line: Option<usize>) -> String {
    line.map(|l| format!(" (line {l})")).unwrap_or_default()
}

impl Kubeconfig {
    /// The file's text. A secret, since it may hold a key.
    pub fn render(&self) -> Secret {
        let encode = |data: &[u8]| Some(BASE64_STANDARD.encode(data));
        let user = match &self.credential {
            Credential::Embedded { cert, key } => User {
                client_certificate_data: encode(cert.as_bytes()),
                client_key_data: encode(key.expose()),
                ..User::default()
            },
            Credential::Files { cert, key } => User {
                client_certificate: Some(cert.clone()),
                client_key: Some(key.clone()),
                ..User::default()
            },
        };
        let context = self.context();
        let cluster =
            Cluster { certificate_authority_data: encode(self.ca.as_bytes()), server: self.server.clone() };
        let file = File {
            api_version: "v1".to_owned(),
            clusters: vec![NamedCluster { cluster, name: self.cluster.clone() }],
            contexts: vec![NamedContext {
                context: Context { cluster: self.cluster.clone(), user: self.user.clone() },
                name: context.clone(),
            }],
            current_context: context,
            kind: "Config".to_owned(),
            users: vec![NamedUser { name: self.user.clone(), user }],
        };
        // Structs of strings have no form that YAML lacks, so there is always a text.
        Secret::new(serde_yaml::to_string(&file).unwrap_or_default())
    }

    /// The name of its only context.
    pub fn context(&self) -> String {
        context(&self.user, &self.cluster)
    }

    /// Reads the current context of a file.
    ///
    /// # Errors
    /// Where it is no kubeconfig, or lacks what ours have: a context, its cluster with an embedded authority, its user
    /// with a client certificate.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let mut file: File = serde_yaml::from_str(text)
            .map_err(|e| KubeconfigError::Form { line: e.location().map(|l| l.line()) })?;
        let context = position(&file.contexts, |c| c.name == file.current_context)
            .map(|i| file.contexts.swap_remove(i).context)
            .ok_or(KubeconfigError::Lacks("a current context"))?;
        let cluster = position(&file.clusters, |c| c.name == context.cluster)
            .map(|i| file.clusters.swap_remove(i).cluster)
            .ok_or(KubeconfigError::Lacks("its context's cluster"))?;
        let user = position(&file.users, |u| u.name == context.user)
            .map(|i| file.users.swap_remove(i).user)
            .ok_or(KubeconfigError::Lacks("its context's user"))?;
        let ca = cluster
            .certificate_authority_data
            .ok_or(KubeconfigError::Lacks("an embedded certificate authority"))?;
        Ok(Self {
            cluster: context.cluster,
            server: cluster.server,
            ca: decode_text(&ca, "certificate authority")?,
            user: context.user,
            credential: user.credential()?,
        })
    }
}

/// The name of the context in which that user dials that cluster.
pub fn context(user: &str, cluster: &str) -> String {
    format!("{user}@{cluster}")
}

/// What a kubeconfig has, ours or not, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Where to dial.
    pub clusters: Vec<String>,
    /// The authorities that clusters of these names are known by, PEM, as far as the file itself has them.
    pub authorities: Vec<(String, String)>,
    /// Who one is.
    pub users: Vec<String>,
    /// Which of them go together.
    pub contexts: Vec<String>,
}

/// All names in a kubeconfig; `None` where a text is none.
pub fn names(text: &str) -> Option<Names> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        cluster: Option<Authority>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Authority {
        certificate_authority_data: Option<String>,
    }
    // kubectl writes `null` for an empty list.
    #[derive(Deserialize)]
    struct Lists {
        clusters: Option<Vec<Named>>,
        users: Option<Vec<Named>>,
        contexts: Option<Vec<Named>>,
    }
    let file: Lists = serde_yaml::from_str(text).ok()?;
    let authority = |named: &Named| {
        let data = named.cluster.as_ref()?.certificate_authority_data.as_deref()?;
        Some((named.name.clone(), decode_text(data, "certificate authority").ok()?))
    };
    let authorities = file.clusters.iter().flatten().filter_map(authority).collect();
    let of = |list: Option<Vec<Named>>| list.into_iter().flatten().map(|named| named.name).collect();
    let (clusters, users, contexts) = (of(file.clusters), of(file.users), of(file.contexts));
    Some(Names { clusters, authorities, users, contexts })
}

impl User {
    fn credential(self) -> Result<Credential, KubeconfigError> {
        match (self.client_certificate_data, self.client_key_data, self.client_certificate, self.client_key) {
            (Some(cert), Some(key), ..) => Ok(Credential::Embedded {
                cert: decode_text(&cert, "client certificate")?,
                key: Secret::new(decode(&key, "client key")?),
            }),
            (.., Some(cert), Some(key)) => Ok(Credential::Files { cert, key }),
            _ => Err(KubeconfigError::Lacks("a client certificate and its key")),
        }
    }
}

fn position<T>(items: &[T], is_it: impl Fn(&T) -> bool) -> Option<usize> {
    items.iter().position(is_it)
}

fn decode(data: &str, what: &'static str) -> Result<Vec<u8>, KubeconfigError> {
    BASE64_STANDARD.decode(data.trim()).map_err(|_| KubeconfigError::Unreadable(what))
}

fn decode_text(data: &str, what: &'static str) -> Result<String, KubeconfigError> {
    String::from_utf8(decode(data, what)?).map_err(|_| KubeconfigError::Unreadable(what))
}

// The file's form (client-go, `clientcmd/api/v1`), as far as it matters here; fields in the order in which client-go
// writes them. No Debug: a user holds a key.

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(rename = "current-context", default)]
    current_context: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Serialize, Deserialize)]
struct NamedCluster {
    cluster: Cluster,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
    server: String,
}

#[derive(Serialize, Deserialize)]
struct NamedContext {
    context: Context,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Serialize, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
}
