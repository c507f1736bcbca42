//! rsadm's own log, for those who look for a fault in it: `-vv`, or a filter in `RSADM_LOG`. The only file that knows
//! `tracing`.
//!
//! What went over which wire, how long that took and how it ended; never what it carried, which may be a key. What the crates
//! below log is theirs and is not shown, whatever the filter says: one day one of them may tell more than frames and lengths.

use std::{fmt::Display, time::Duration};

use tracing::{Metadata, Subscriber};
use tracing_subscriber::{EnvFilter, Registry, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt};

use crate::inventory::NodeName;

/// Writes it, as far as the filter lets it, from here on.
pub fn start(filter: EnvFilter, is_coloured: bool) {
    // Nobody else has one.
    let _ = tracing::subscriber::set_global_default(written(filter, is_coloured, std::io::stderr));
}

fn written<W>(filter: EnvFilter, is_coloured: bool, to: W) -> impl Subscriber
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_ansi(is_coloured).with_writer(to);
    Registry::default().with(filter).with(filter_fn(is_ours)).with(lines)
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().split("::").next() == Some("rsadm")
}

/// A connection to a host came to stand, or did not.
pub fn connection(host: &NodeName, elapsed: Duration, error: Option<&dyn Display>) {
    match error {
        None => tracing::debug!(target: "rsadm::host", %host, ?elapsed, "connected"),
        Some(error) => tracing::debug!(target: "rsadm::host", %host, ?elapsed, %error, "not connected"),
    }
}

/// What went through the shell of a host at once: how many operations of how many bytes, and how the last one ended.
pub fn batch(
    host: &NodeName,
    operations: usize,
    bytes: u64,
    elapsed: Duration,
    ended: Result<i32, &dyn Display>,
) {
    match ended {
        Ok(status) => {
            tracing::debug!(target: "rsadm::host", %host, operations, bytes, ?elapsed, status, "batch");
        }
        Err(error) => {
            tracing::debug!(target: "rsadm::host", %host, operations, bytes, ?elapsed, %error, "batch");
        }
    }
}

/// A call to a member of etcd.
pub fn call(endpoint: &str, call: &str, elapsed: Duration, error: Option<&dyn Display>) {
    match error {
        None => tracing::debug!(target: "rsadm::etcd", endpoint, call, ?elapsed, "call"),
        Some(error) => tracing::debug!(target: "rsadm::etcd", endpoint, call, ?elapsed, %error, "call"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_says_what_went_where_for_how_long_and_how_it_ended() {
        let shown = Written::default();
        let sink = shown.clone();
        let log = written(EnvFilter::new("trace"), false, move || sink.clone());
        let host = NodeName::new("m1");
        tracing::subscriber::with_default(log, || {
            connection(&host, Duration::from_millis(210), None);
            connection(&host, Duration::from_millis(3), Some(&"no route"));
            batch(&host, 12, 4096, Duration::from_millis(30), Ok(1));
            batch(&host, 1, 0, Duration::from_millis(30), Err(&"lost"));
            call("m1 (10.0.0.1:2379)", "status", Duration::from_millis(2), None);
            call("m1 (10.0.0.1:2379)", "snapshot", Duration::from_secs(3), Some(&"silent"));
            tracing::trace!(target: "h2::codec::framed_write", frame = "a key");
            tracing::error!(target: "rsadm_of_others", "a key");
        });
        let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
        let timeless: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("Z "))
            .map(|(_, rest)| rest.trim_start())
            .collect();
        insta::assert_snapshot!(timeless.join("\n"), @r#"
        DEBUG rsadm::host: connected host=m1 elapsed=210ms
        DEBUG rsadm::host: not connected host=m1 elapsed=3ms error=no route
        DEBUG rsadm::host: batch host=m1 operations=12 bytes=4096 elapsed=30ms status=1
        DEBUG rsadm::host: batch host=m1 operations=1 bytes=0 elapsed=30ms error=lost
        DEBUG rsadm::etcd: call endpoint="m1 (10.0.0.1:2379)" call="status" elapsed=2ms
        DEBUG rsadm::etcd: call endpoint="m1 (10.0.0.1:2379)" call="snapshot" elapsed=3s error=silent
        "#);
    }
}
