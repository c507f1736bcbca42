//! A host that answers as a test has it.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;

use super::{Forward, Host, HostError, Op, Output};
use crate::inventory::NodeName;

struct Stub<A>(NodeName, A);

#[async_trait]
impl<A: Fn(&[Op]) -> Result<Vec<Output>, HostError> + Send + Sync> Host for Stub<A> {
    fn name(&self) -> &NodeName {
        &self.0
    }

    async fn run(&self, ops: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
        (self.1)(ops)
    }

    async fn forward(&self, _: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
        unreachable!("nothing is dialled through it")
    }
}

/// A host of that name; what it answers to what it is to run.
pub(crate) fn host(
    name: &str,
    answers: impl Fn(&[Op]) -> Result<Vec<Output>, HostError> + Send + Sync + 'static,
) -> Arc<dyn Host> {
    Arc::new(Stub(NodeName::new(name), answers))
}

/// One answer: a status and what was printed.
pub(crate) fn says(status: i32, text: &str) -> Result<Vec<Output>, HostError> {
    Ok(vec![Output { status, stdout: text.into(), ..Output::default() }])
}

/// The connection to that host is gone.
pub(crate) fn lost(name: &str) -> Result<Vec<Output>, HostError> {
    Err(HostError::Lost { host: NodeName::new(name), doing: "run".into(), why: "gone".into() })
}
