//! etcd's refusals, sorted by its own words: wait and ask again, never ask again, or nobody answered.

use std::error::Error as StdError;

use tonic::{Code, Status};

use super::certificate;
use crate::etcd::EtcdError;

const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const TOO_MANY_LEARNERS: &str = "etcdserver: too many learner members in cluster";
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
const LEARNER_BEHIND: &str = "etcdserver: can only promote a learner member which is in sync with leader";
pub(super) const NOT_A_LEARNER: &str = "etcdserver: can only promote a learner member";
pub(super) const PEER_URL_EXISTS: &str = "etcdserver: Peer URLs already exists";
/// Instead of the above within one second: IDs are made from the peer URLs and the time.
pub(super) const MEMBER_ID_EXISTS: &str = "etcdserver: member ID already exist";
pub(super) const MEMBER_NOT_FOUND: &str = "etcdserver: member not found";
const NOT_FOR_LEARNERS: &str = "etcdserver: rpc not supported for learner";
/// How etcd's auth says no (etcd, `rpctypes/error.go`, `ErrPermissionDenied` and `ErrUserEmpty`).
const DENIALS: [&str; 2] = ["etcdserver: permission denied", "etcdserver: user name is empty"];

/// True where etcd refused in exactly these words (etcd, api/v3rpc/rpctypes/error.go).
pub(super) fn says(error: &EtcdError, words: &str) -> bool {
    matches!(error, EtcdError::Refused { why, .. } if why == words)
}

/// Sorts a failure by etcd's words, and where it has none of its own by the gRPC code.
pub(super) fn classify(endpoint: &str, error: &etcd_client::Error) -> EtcdError {
    match error {
        etcd_client::Error::GRpcStatus(status) => classify_status(endpoint, status),
        etcd_client::Error::TransportError(e) => transport_error(endpoint, e),
        other => EtcdError::Unavailable { endpoint: endpoint.to_owned(), why: other.to_string() },
    }
}

fn classify_status(endpoint: &str, status: &Status) -> EtcdError {
    let endpoint = endpoint.to_owned();
    let why = status.message().to_owned();
    match (why.as_str(), status.code()) {
        (UNHEALTHY | TOO_MANY_LEARNERS | LEARNER_BEHIND | TOO_MANY_REQUESTS, _) => {
            EtcdError::NotYet { endpoint, why }
        }
        (NOT_FOR_LEARNERS, _) => EtcdError::Refused { endpoint, why },
        _ if DENIALS.contains(&why.as_str()) => EtcdError::Denied { endpoint, why },
        // No leader, a lost leader, a time-out, a server that stops: another moment or member may do better.
        (_, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::Unknown) => {
            match status.source() {
                Some(source) => transport_error(&endpoint, source),
                None => EtcdError::Unavailable { endpoint, why },
            }
        }
        _ => EtcdError::Refused { endpoint, why },
    }
}

/// A failure below gRPC. The useful words are the innermost: tonic's own say no more than "transport error".
pub(super) fn transport_error(endpoint: &str, error: &(dyn StdError + 'static)) -> EtcdError {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let unavailable = || EtcdError::Unavailable { endpoint: endpoint.to_owned(), why: inner.to_string() };
    certificate::untrusted(endpoint, error).unwrap_or_else(unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// etcd's answers as they come over the wire, and what each means to us.
    #[test]
    fn every_answer_has_its_kind() {
        let table = [
            (Code::Unavailable, "etcdserver: unhealthy cluster", "NotYet"),
            (Code::FailedPrecondition, "etcdserver: too many learner members in cluster", "NotYet"),
            (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
                "NotYet",
            ),
            (Code::ResourceExhausted, "etcdserver: too many requests", "NotYet"),
            (Code::FailedPrecondition, "etcdserver: can only promote a learner member", "Refused"),
            (
                Code::FailedPrecondition,
                "etcdserver: re-configuration failed due to not enough started members",
                "Refused",
            ),
            (Code::NotFound, "etcdserver: member not found", "Refused"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "Refused"),
            (Code::DataLoss, "etcdserver: corrupt cluster", "Refused"),
            (Code::FailedPrecondition, "etcdserver: not leader", "Refused"),
            (Code::PermissionDenied, "etcdserver: permission denied", "Denied"),
            (Code::InvalidArgument, "etcdserver: user name is empty", "Denied"),
            // etcd 3.4 and 3.5 answer with this code.
            (Code::Unavailable, "etcdserver: rpc not supported for learner", "Refused"),
            (Code::Unavailable, "etcdserver: no leader", "Unavailable"),
            (Code::Unavailable, "etcdserver: request timed out", "Unavailable"),
            (Code::Unavailable, "etcdserver: server stopped", "Unavailable"),
            (Code::Unknown, "raft proposal dropped", "Unavailable"),
        ];
        for (code, words, kind) in table {
            let error = classify_status("m1", &Status::new(code, words));
            assert!(format!("{error:?}").starts_with(kind), "{words}: {error:?}");
            assert_eq!(error.into_why(), words);
        }
    }

    #[test]
    fn words_are_compared_whole() {
        let refused = |why: &str| EtcdError::Refused { endpoint: "m1".to_owned(), why: why.to_owned() };
        assert!(says(&refused("etcdserver: can only promote a learner member"), NOT_A_LEARNER));
        assert!(!says(&refused(LEARNER_BEHIND), NOT_A_LEARNER), "the one begins with the other");
    }
}
