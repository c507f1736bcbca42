//! A large file on its way into a bucket, in parts. Those of an upload that is neither completed nor aborted are seen in no
//! list, and cost money until someone finds them: so whatever ends it, it is aborted.

use std::{error::Error, time::Duration};

use futures::{TryStreamExt, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, path::Path as Key};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// What is sent at once, and how many of these may be under way: the memory that a snapshot of any size takes.
const PART: usize = 8 << 20;
pub(super) const PARTS: usize = 4;

/// How long the store may take to throw away what it has: whoever stops a run does not wait for ever.
const ABORT: Duration = Duration::from_secs(10);

type Sent = Result<(), Box<dyn Error + Send + Sync>>;

/// Somebody stopped it.
#[derive(Debug, thiserror::Error)]
#[error("it was stopped meanwhile")]
struct Stopped;

/// Sends a file, until `stop` is there.
pub(super) async fn send(
    store: &dyn ObjectStore,
    key: &Key,
    mut from: File,
    stop: impl Future<Output = ()>,
) -> Sent {
    let first = piece(&mut from).await?;
    if first.len() < PART {
        return unless_stopped(stop, async { Ok(store.put(key, first.into()).await.map(drop)?) }).await;
    }
    let mut upload = store.put_multipart(key).await?;
    whole(&mut *upload, first, from, stop).await
}

/// All parts, or nothing of them.
async fn whole(
    upload: &mut dyn MultipartUpload,
    first: Vec<u8>,
    from: impl AsyncRead + Unpin,
    stop: impl Future<Output = ()>,
) -> Sent {
    let sent = unless_stopped(stop, parts(upload, first, from)).await;
    if sent.is_err() {
        let _ = timeout(ABORT, upload.abort()).await;
    }
    sent
}

async fn unless_stopped(stop: impl Future<Output = ()>, sent: impl Future<Output = Sent>) -> Sent {
    tokio::select! {
        biased;
        () = stop => Err(Stopped.into()),
        sent = sent => sent,
    }
}

async fn parts(upload: &mut dyn MultipartUpload, first: Vec<u8>, mut from: impl AsyncRead + Unpin) -> Sent {
    let (mut next, mut under_way) = (first, FuturesUnordered::new());
    while !next.is_empty() {
        under_way.push(upload.put_part(next.into()));
        while under_way.len() >= PARTS {
            under_way.try_next().await?;
        }
        next = piece(&mut from).await?;
    }
    while under_way.try_next().await?.is_some() {}
    Ok(upload.complete().await.map(drop)?)
}

async fn piece(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PART);
    from.take(PART as u64).read_to_end(&mut piece).await?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use object_store::{PutPayload, PutResult, UploadPart};

    use super::*;

    /// An upload whose third part is never sent, or fails.
    #[derive(Debug)]
    struct Hangs {
        parts: usize,
        fails: bool,
        ends: Arc<[AtomicUsize; 2]>,
    }

    #[async_trait::async_trait]
    impl MultipartUpload for Hangs {
        fn put_part(&mut self, _: PutPayload) -> UploadPart {
            self.parts += 1;
            let (number, fails) = (self.parts, self.fails);
            Box::pin(async move {
                match number {
                    3 if fails => Err(object_store::Error::NotImplemented {
                        operation: "put_part".into(),
                        implementer: "test".into(),
                    }),
                    3 => std::future::pending().await,
                    _ => Ok(()),
                }
            })
        }

        async fn complete(&mut self) -> object_store::Result<PutResult> {
            self.ends[0].fetch_add(1, Ordering::Relaxed);
            Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
        }

        async fn abort(&mut self) -> object_store::Result<()> {
            self.ends[1].fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_stopped_or_fails_is_aborted_and_not_completed() {
        for (size, fails, stops, completed) in
            [(2 * PART, false, false, true), (5 * PART, true, false, false), (5 * PART, false, true, false)]
        {
            let ends = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let mut upload = Hangs { parts: 0, fails, ends: ends.clone() };
            let bytes = vec![7; size];
            let mut from = &bytes[..];
            let first = piece(&mut from).await.unwrap();
            let stop = async {
                match stops {
                    true => tokio::time::sleep(Duration::from_millis(50)).await,
                    false => std::future::pending().await,
                }
            };
            let sent = whole(&mut upload, first, from, stop).await;
            assert_eq!(sent.is_ok(), completed, "{sent:?}");
            let ends = ends.each_ref().map(|end| end.load(Ordering::Relaxed));
            assert_eq!(ends, [usize::from(completed), usize::from(!completed)]);
        }
    }
}
