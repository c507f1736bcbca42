//! A bucket: the only file that knows `object_store`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use object_store::{
    ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, path::Path as Key,
};
use tokio::io::AsyncWriteExt;

use super::{BackupError, Entry, Manifest, NO_MANIFEST, is_there_already};
use crate::{
    backup::{
        file,
        manifest::{is_snapshot, name_for},
        room,
    },
    inventory::Backup,
    line::chain,
};

mod cause;
mod upload;

use cause::Cause;
use upload::PARTS;

/// A bucket and the folder in it.
#[derive(Debug)]
pub struct Bucket {
    /// For questions and manifests.
    store: Arc<dyn ObjectStore>,
    /// For snapshots, which take as long as they take.
    transfers: Arc<dyn ObjectStore>,
    folder: Key,
    url: String,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Settings of a bucket from a file: `KEY=VALUE` lines with the names that the providers' own tools take from the
/// environment (`AWS_ACCESS_KEY_ID`, `AZURE_STORAGE_ACCOUNT_KEY`, …), or a service account's key as Google gives it out.
///
/// # Errors
/// Where a line is neither; its text is not repeated, since it may hold a key.
pub fn credentials(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim_start().starts_with('{') {
        return Ok([("google_service_account_key".to_owned(), text.trim().to_owned())].into());
    }
    let lines =
        text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.trim().starts_with('#'));
    lines
        .map(|(line, number)| {
            let (key, value) =
                line.split_once('=').ok_or_else(|| format!("line {number} is not KEY=VALUE"))?;
            let key = key.trim().trim_start_matches("export ").to_ascii_lowercase();
            Ok((key, value.trim().trim_matches('"').to_owned()))
        })
        .collect()
}

/// How long a store may take.
struct Patience {
    retry: RetryConfig,
    /// Settings of the client, by the names that all builders take.
    limits: [(&'static str, &'static str); 2],
}

impl Patience {
    /// A person, or the next firing of a timer, waits for an answer.
    fn for_answers() -> Self {
        let retry =
            RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        Self { retry, limits: [("timeout", "30s"), ("read_timeout", "30s")] }
    }

    /// For as long as something moves: a snapshot of gigabytes takes minutes to get, and is gone on with where its connection
    /// breaks. The second limit is also what a part may take to be sent ([`PARTS`] at once).
    fn for_transfers() -> Self {
        let retry = RetryConfig { max_retries: 5, retry_timeout: DAY, ..RetryConfig::default() };
        Self { retry, limits: [("timeout", "1day"), ("read_timeout", "5min")] }
    }
}

/// Longer than any transfer takes.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store with settings; names that its builder does not know are another provider's. Without credentials among them those of
/// the environment count.
macro_rules! built {
    ($builder:ty, $url:expr, $settings:expr, $patience:expr) => {{
        let environment = $settings.keys().all(|key| Backup::PLAIN.contains(&&**key));
        let builder = if environment { <$builder>::from_env() } else { <$builder>::new() };
        let mut builder = builder.with_url($url).with_retry($patience.retry);
        let limits = $patience.limits.into_iter();
        for (key, value) in limits.chain($settings.iter().map(|(k, v)| (&**k, &**v))) {
            if let Ok(key) = key.parse() {
                builder = builder.with_config(key, value);
            }
        }
        builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
    }};
}

impl Bucket {
    /// A bucket by its URL: `s3://BUCKET/FOLDER`, `gs://…`, `az://CONTAINER/FOLDER`. Where the settings have no credentials,
    /// those of the environment count.
    ///
    /// # Errors
    /// Where the settings do not do for it. Nothing is asked of the store yet.
    pub fn open(url: &str, settings: &BTreeMap<String, String>) -> Result<Self, BackupError> {
        // One provider for the whole program; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (scheme, place) = url.split_once("://").unwrap_or_default();
        if !scheme.is_empty() && (place.is_empty() || place.starts_with('/')) {
            return Err(BackupError::Refused(format!("{url} names no bucket: {scheme}://BUCKET/FOLDER")));
        }
        let store = |patience: Patience| match scheme {
            "s3" => built!(AmazonS3Builder, url, settings, patience),
            "gs" => built!(GoogleCloudStorageBuilder, url, settings, patience),
            _ => built!(MicrosoftAzureBuilder, url, settings, patience),
        };
        if !["s3", "gs", "az"].contains(&scheme) {
            return Err(BackupError::Refused(format!("{url} is none of s3://, gs://, az://")));
        }
        let stores = store(Patience::for_answers()).and_then(|s| Ok((s, store(Patience::for_transfers())?)));
        let folder = Key::from(place.split_once('/').map_or("", |(_, folder)| folder));
        let url = url.trim_end_matches('/').to_owned();
        let (store, transfers) = stores.map_err(failed(format!("use {url}")))?;
        Ok(Self { store, transfers, folder, url })
    }

    /// What is there, in no order. Not what lies in folders of the folder, which may be many clusters'.
    pub(super) async fn list(&self) -> Result<Vec<Entry>, BackupError> {
        let listing = self.store.list_with_delimiter(Some(&self.folder)).await;
        let objects = listing.map_err(failed(format!("list {}", self.url)))?.objects;
        let sizes: BTreeMap<&str, u64> =
            objects.iter().filter_map(|o| Some((o.location.filename()?, o.size))).collect();
        let snapshots = sizes.iter().filter(|(name, _)| is_snapshot(name));
        let entry = |(name, size): (&&str, &u64)| {
            let (name, size, has_manifest) =
                ((*name).to_owned(), *size, sizes.contains_key(&*name_for(name)));
            async move {
                let manifest = match has_manifest {
                    true => self.manifest(&name).await,
                    false => Err(NO_MANIFEST.to_owned()),
                };
                Entry::new(name, size, manifest)
            }
        };
        Ok(stream::iter(snapshots.map(entry)).buffered(PARTS * 2).collect().await)
    }

    /// The one of that name.
    pub(super) async fn entry(&self, name: &str) -> Result<Option<Entry>, BackupError> {
        match self.store.head(&self.key(name)).await {
            Ok(there) => Ok(Some(Entry::new(name.to_owned(), there.size, self.manifest(name).await))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(format!("look at {name} in {}", self.url))(error)),
        }
    }

    /// A snapshot's manifest, or why it is of no use.
    async fn manifest(&self, name: &str) -> Result<Manifest, String> {
        match self.read(&name_for(name)).await {
            Ok(bytes) => Manifest::parse(&bytes),
            Err(error) if is_missing(&error) => Err(NO_MANIFEST.to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Sends a file, and then its manifest; once `stop` is there, nothing more, and nothing of it is left.
    pub(super) async fn put(
        &self,
        snapshot: &Path,
        manifest: &Manifest,
        stop: impl Future<Output = ()>,
    ) -> Result<(), BackupError> {
        let doing = || format!("put {} into {}", manifest.file, self.url);
        match self.store.head(&self.key(&manifest.file)).await {
            Ok(_) => return Err(is_there_already(&manifest.file, self)),
            // Whether that may be read is told once it was sent.
            Err(error) if is_denied(&error) => {}
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(doing())(error)),
        }
        let from = tokio::fs::File::open(snapshot)
            .await
            .map_err(BackupError::io(format!("read {}", snapshot.display())))?;
        let sent = upload::send(&*self.transfers, &self.key(&manifest.file), from, stop).await;
        let was_sent = sent.is_ok();
        let finished = async {
            sent.map_err(|error| match error.downcast::<object_store::Error>() {
                Ok(error) => failed(doing())(*error),
                Err(source) => BackupError::Store { doing: doing(), source },
            })?;
            self.arrived(manifest).await?;
            self.describe(manifest).await
        };
        let Err(error) = finished.await else { return Ok(()) };
        // Without a manifest it is no snapshot, and no retention ever removes it. A store may have it whole also where its
        // answer was lost.
        match self.store.delete(&self.key(&manifest.file)).await {
            Err(_) if was_sent => {
                let text = format!("{}; it is left there, and could not be removed again", chain(&error));
                Err(BackupError::Refused(text))
            }
            _ => Err(error),
        }
    }

    /// What was sent is there as it was sent.
    async fn arrived(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let Manifest { file, size, .. } = manifest;
        match self.store.head(&self.key(file)).await {
            Ok(there) if there.size == *size => Ok(()),
            Ok(there) => Err(BackupError::Refused(format!(
                "{file} has {} bytes in {}, and {size} were sent",
                there.size, self.url
            ))),
            Err(error) if is_denied(&error) => Err(BackupError::Refused(format!(
                "{file} was sent to {} and cannot be looked at there: the credentials lack the permission to read \
                 ({}), without which it is not known to be whole, and no manifest is read",
                self.url,
                self.reading()
            ))),
            Err(error) => Err(failed(format!("look at {file} in {}", self.url))(error)),
        }
    }

    /// What the provider calls the permission to read an object.
    fn reading(&self) -> &'static str {
        match self.url.split("://").next() {
            Some("gs") => "storage.objects.get",
            Some("az") => "blobs/read, or r of a shared access signature",
            _ => "s3:GetObject",
        }
    }

    /// Writes a manifest.
    pub(super) async fn describe(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let (name, text) = (name_for(&manifest.file), manifest.to_json().into_bytes());
        let put = self.store.put(&self.key(&name), text.into()).await;
        put.map(drop).map_err(failed(format!("put {name} into {}", self.url)))
    }

    /// Removes files in this order.
    pub(super) async fn remove(&self, names: &[String]) -> Result<(), BackupError> {
        for name in names {
            match self.store.delete(&self.key(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed(format!("remove {name} from {}", self.url))(e)),
            }
        }
        Ok(())
    }

    /// Fetches a file into a folder of this machine, with its manifest.
    pub(super) async fn fetch(&self, name: &str, folder: &Path) -> Result<PathBuf, BackupError> {
        let doing = || format!("get {name} from {}", self.url);
        let path = folder.join(name);
        let object = self.transfers.get(&self.key(name)).await.map_err(failed(doing()))?;
        room::check(folder, object.meta.size)?;
        let made =
            file::create_private(&path).map_err(BackupError::io(format!("write {}", path.display())))?;
        let mut to = tokio::fs::File::from_std(made);
        let mut pieces = object.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed(doing()))?;
            to.write_all(&piece).await.map_err(BackupError::io(format!("write {}", path.display())))?;
        }
        to.flush().await.map_err(BackupError::io(format!("write {}", path.display())))?;
        // One that cannot be read may say that the snapshot is damaged, or another cluster's.
        match self.read(&name_for(name)).await {
            Err(error) if is_missing(&error) => {}
            manifest => file::write(&file::manifest_path(&path), &manifest?)?,
        }
        Ok(path)
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>, BackupError> {
        let doing = || format!("get {name} from {}", self.url);
        let object = self.store.get(&self.key(name)).await.map_err(failed(doing()))?;
        Ok(object.bytes().await.map_err(failed(doing()))?.to_vec())
    }

    fn key(&self, name: &str) -> Key {
        self.folder.clone().join(name)
    }
}

fn is_denied(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    )
}

fn is_missing(error: &BackupError) -> bool {
    let BackupError::Store { source, .. } = error else { return false };
    source.downcast_ref().is_some_and(|cause: &Cause| cause.is_missing)
}

fn failed(doing: String) -> impl FnOnce(object_store::Error) -> BackupError {
    |error| BackupError::Store { doing, source: Box::new(Cause::from(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_both_forms() {
        let lines =
            "# of the backup user\nAWS_ACCESS_KEY_ID=AKIA1\n\nexport AWS_SECRET_ACCESS_KEY=\"s3=cr/t\"\n";
        let settings = credentials(lines).unwrap();
        assert_eq!(settings["aws_access_key_id"], "AKIA1");
        assert_eq!(settings["aws_secret_access_key"], "s3=cr/t");
        assert_eq!(credentials("{\"type\": 1}\n").unwrap()["google_service_account_key"], "{\"type\": 1}");
        let error = credentials("A=1\nhunter2\n").unwrap_err();
        assert_eq!(error, "line 2 is not KEY=VALUE");
    }

    #[test]
    fn every_provider_takes_its_settings() {
        let settings =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let s3 = settings(&[
            ("aws_access_key_id", "a"),
            ("aws_secret_access_key", "b"),
            ("aws_region", "eu-central-1"),
        ]);
        let azure = settings(&[("azure_storage_account_name", "a"), ("azure_storage_account_key", "YWJj")]);
        let google = settings(&[("google_skip_signature", "true")]);
        for (url, settings) in
            [("s3://b/etcd/prod", s3), ("az://c/etcd/prod/", azure), ("gs://b/etcd/prod", google)]
        {
            let bucket = Bucket::open(url, &settings).unwrap();
            assert_eq!(bucket.key("x.db").as_ref(), "etcd/prod/x.db", "{url}");
        }
        assert!(Bucket::open("ftp://b", &BTreeMap::new()).is_err());
    }
}
