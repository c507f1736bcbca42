//! The end of a run that takes too long, or that somebody stops.

use std::time::{Duration, Instant};

use futures::{FutureExt, future::Shared};

use crate::backup::BackupError;

/// How long a run that is stopped may take to end. systemd waits for a minute and a half before it kills
/// (systemd-system.conf, `DefaultTimeoutStopSec`).
const GRACE: Duration = Duration::from_secs(20);

/// What was under way when the end was wanted has failed for that, most likely: etcdutl is told to end, too. What it says stays
/// the cause: it may tell what is left where.
pub(super) async fn unless_ended<T>(
    attempt: impl Future<Output = Result<T, BackupError>>,
    stop: &Shared<impl Future<Output = ()>>,
    started: Instant,
) -> Result<T, BackupError> {
    let given_up = async {
        stop.clone().await;
        tokio::time::sleep(GRACE).await;
    };
    let ended = |source| BackupError::Ended { after: started.elapsed(), source };
    let outcome = tokio::select! {
        biased;
        outcome = attempt => outcome,
        () = given_up => return Err(ended(None)),
    };
    match outcome {
        Err(error) if stop.clone().now_or_never().is_some() => Err(ended(Some(Box::new(error)))),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_stopped_ends_and_says_so() {
        let never = || std::future::pending::<()>().shared();
        let stopped = || std::future::ready(()).shared();
        let failed = || Err::<(), _>(BackupError::Refused("etcdutl was killed".into()));
        let now = Instant::now();
        let hangs = std::future::pending::<Result<(), BackupError>>();
        let ended = unless_ended(hangs, &stopped(), now).await.unwrap_err().to_string();
        assert!(ended.starts_with("the run was ended after 0 s: it took longer than its limit"), "{ended}");
        let ended = unless_ended(async { failed() }, &stopped(), now).await;
        assert!(matches!(ended, Err(BackupError::Ended { .. })), "{ended:?}");
        let said = crate::line::chain(&ended.unwrap_err());
        assert!(said.ends_with("or somebody stopped it: etcdutl was killed"), "{said}");
        let ended = unless_ended(async { failed() }, &never(), now).await;
        assert!(matches!(ended, Err(BackupError::Refused(_))), "{ended:?}");
        unless_ended(async { Ok(()) }, &stopped(), now).await.unwrap();
    }
}
