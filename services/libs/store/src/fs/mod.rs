//! Objects in a directory, for a single process, with the lock rules enforced by the adapter.
//!
//! `DIR/v1/…/original` is the object itself, so that people can look at it; `DIR/.caselock/meta/…` has version and lock,
//! `DIR/.caselock/multipart/ID/` what is being uploaded. A key has one version: nothing here overwrites. Whoever may write
//! to the directory can of course go around all this; the S3 adapter is for those who must not be able to.

mod disk;
mod meta;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use caselock_domain::time::Clock;
use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};

use crate::{Crc64Nvme, ErrorKind, KeyPage, Lock, NewObject, Part, Result, Store, StoreError, Version};
use disk::Disk;

/// How much is read from a file at once.
const READ: usize = 1 << 20;

/// Objects in a directory.
pub struct FsStore {
    disk: Arc<Disk>,
    /// One change of a lock or key at a time.
    changes: Arc<Mutex<()>>,
    clock: Clock,
}

impl FsStore {
    /// Opens the directory, or creates it. Only one process may use it; a lock file keeps a second one out.
    pub fn open(root: PathBuf, clock: Clock) -> Result<Arc<Self>> {
        let disk = Arc::new(Disk::open(root, clock())?);
        Ok(Arc::new(Self { disk, changes: Arc::default(), clock }))
    }

    /// Runs file work off the async threads, one change at a time.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk, Timestamp) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (disk, changes, now) = (self.disk.clone(), self.changes.clone(), (self.clock)());
        blocking(move || {
            let _one_at_a_time = changes.lock().unwrap_or_else(PoisonError::into_inner);
            work(&disk, now)
        })
        .await
    }

    async fn look<T: Send + 'static>(&self, work: impl FnOnce(&Disk) -> Result<T> + Send + 'static) -> Result<T> {
        let disk = self.disk.clone();
        blocking(move || work(&disk)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|e| Err(StoreError::new(ErrorKind::Unavailable, "", e)))
}

#[async_trait]
impl Store for FsStore {
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String> {
        let (key, new) = (key.to_owned(), new.clone());
        let id = uuid::Uuid::new_v4().to_string();
        self.look(move |disk| disk.begin(&key, &id, &new).map(|()| id)).await
    }

    async fn put_part(&self, _key: &str, id: &str, number: u32, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let id = id.to_owned();
        self.look(move |disk| disk.put_part(&id, number, &bytes, crc)).await
    }

    async fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<String> {
        let (key, id, parts) = (key.to_owned(), id.to_owned(), parts.to_vec());
        self.change(move |disk, _| disk.complete(&key, &id, &parts)).await
    }

    async fn abort(&self, _key: &str, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |disk, _| disk.abort(&id)).await
    }

    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let (key, new) = (key.to_owned(), new.clone());
        let id = uuid::Uuid::new_v4().to_string();
        self.change(move |disk, _| disk.put(&key, &id, &new, &bytes, crc)).await
    }

    async fn versions(&self, key: &str) -> Result<Vec<Version>> {
        let key = key.to_owned();
        let found = self.look(move |disk| disk.find(&key)).await?;
        Ok(found.map(|m| Version { id: m.version, is_delete_marker: false, size: m.size }).into_iter().collect())
    }

    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.look(move |disk| disk.keys(&prefix, after.as_deref())).await
    }

    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>> {
        let (key, version) = (key.to_owned(), version.to_owned());
        let meta = self.look(move |disk| disk.version(&key, &version)).await?;
        Ok(u64::from_str_radix(&meta.crc64nvme, 16).ok().map(Crc64Nvme))
    }

    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (name, path, version) = (key.to_owned(), key.to_owned(), version.to_owned());
        let file = self.look(move |disk| disk.open_object(&path, &version, from)).await?;
        let chunks = futures::stream::try_unfold(file, move |file| {
            let key = name.clone();
            blocking(move || disk::read_chunk(file, READ, &key))
        });
        Ok(chunks.boxed())
    }

    async fn lock(&self, key: &str, version: &str) -> Result<Lock> {
        let (key, version) = (key.to_owned(), version.to_owned());
        let meta = self.look(move |disk| disk.version(&key, &version)).await?;
        Ok(Lock { until: Some(meta.lock_until), hold: meta.legal_hold })
    }

    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()> {
        let (key, version) = (key.to_owned(), version.to_owned());
        self.change(move |disk, now| {
            let mut meta = disk.version(&key, &version)?;
            if until < meta.lock_until && meta.lock_until > now {
                return Err(StoreError::new(ErrorKind::Locked, &key, "a lock is never shortened"));
            }
            meta.lock_until = until;
            disk.update(&key, &meta)
        })
        .await
    }

    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()> {
        let (key, version) = (key.to_owned(), version.to_owned());
        self.change(move |disk, _| {
            let mut meta = disk.version(&key, &version)?;
            meta.legal_hold = on;
            disk.update(&key, &meta)
        })
        .await
    }

    async fn delete_version(&self, key: &str, version: &str, _bypass: bool) -> Result<()> {
        let (key, version) = (key.to_owned(), version.to_owned());
        self.change(move |disk, now| {
            let meta = disk.version(&key, &version)?;
            if meta.legal_hold || meta.lock_until > now {
                let detail = format!("locked until {}, hold {}", meta.lock_until, meta.legal_hold);
                return Err(StoreError::new(ErrorKind::Locked, &key, detail));
            }
            disk.delete(&key)
        })
        .await
    }

    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>> {
        Ok(Some(disk::UNFINISHED))
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok((self.clock)())
    }
}
