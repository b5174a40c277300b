use std::{fs::File, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use opentelemetry::{global, metrics::Counter};

use crate::{Crc64Nvme, ErrorKind, Lock, NewObject, Part, Result, Store, StoreError, Version};

/// The length of the parts of [`create_from`]: 10,000 of them are more than any derivative.
pub const PART: u32 = 16 << 20;
/// How often a part is sent again that did not arrive, or not whole: what came before it need not be.
const TURNS: u32 = 3;

/// What [`create`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was created, as this version.
    New(String),
    /// The key had an object already, this version.
    Existing(String),
}

impl Created {
    /// The version of the object that stands there.
    pub fn version(&self) -> &str {
        let (Self::New(version) | Self::Existing(version)) = self;
        version
    }
}

/// Creates an object unless the key has one. A plain DELETE hides an object behind a marker, from HEAD and from
/// `If-None-Match` alike, so the versions are looked at first; the oldest one with data is the object.
pub async fn create(store: &dyn Store, key: &str, new: &NewObject, bytes: Bytes) -> Result<Created> {
    if let Some(version) = oldest_version(store, key).await? {
        return Ok(Created::Existing(version.id));
    }
    let crc = Crc64Nvme::of(&bytes);
    match store.put(key, new, bytes, crc).await {
        Ok(version) => Ok(Created::New(version)),
        Err(error) if error.kind == ErrorKind::AlreadyExists => match oldest_version(store, key).await? {
            Some(version) => Ok(Created::Existing(version.id)),
            None => Err(StoreError::new(ErrorKind::Unavailable, key, "it exists, but has no version yet")),
        },
        Err(error) => Err(error),
    }
}

/// Creates an object unless the key has one, brings what stands there to at least this lock, and reads that back. `None` where
/// it was created; where it was there, its content, of at most `limit` bytes.
pub async fn create_locked(
    store: &dyn Store,
    key: &str,
    new: &NewObject,
    bytes: Bytes,
    lock: Lock,
    limit: usize,
) -> Result<Option<Bytes>> {
    if bytes.len() > limit {
        return Err(StoreError::new(ErrorKind::Invalid, key, format!("larger than {limit} bytes")));
    }
    let created = create(store, key, new, bytes).await?;
    ensure_locked(store, key, created.version(), lock).await?;
    match created {
        Created::New(_) => Ok(None),
        Created::Existing(_) => match read_document(store, key, limit).await? {
            Some((_, there)) => Ok(Some(there)),
            None => Err(StoreError::new(ErrorKind::Unavailable, key, "it is not readable yet")),
        },
    }
}

/// As [`create`], of a file that may be large: beyond [`PART`] bytes it goes in parts, one in memory at a time.
pub async fn create_from(store: &dyn Store, key: &str, new: &NewObject, file: Arc<File>) -> Result<Created> {
    let size = file.metadata().map_err(|e| unreadable(key, e))?.len();
    if size <= u64::from(PART) {
        return create(store, key, new, read_at(&file, key, 0, size as usize).await?).await;
    }
    if let Some(version) = oldest_version(store, key).await? {
        return Ok(Created::Existing(version.id));
    }
    let id = store.begin(key, &NewObject { part_size: PART, ..new.clone() }).await?;
    match put_parts(store, key, &id, &file, size).await {
        Ok(version) => Ok(Created::New(version)),
        Err(error) => {
            // What can't be dropped now is dropped by the store's rule for unfinished uploads.
            let _ = store.abort(key, &id).await;
            match oldest_version(store, key).await? {
                Some(version) => Ok(Created::Existing(version.id)),
                None => Err(error),
            }
        }
    }
}

async fn put_parts(store: &dyn Store, key: &str, id: &str, file: &Arc<File>, size: u64) -> Result<String> {
    let mut parts = Vec::new();
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(u64::from(PART)) as u32;
        let bytes = read_at(file, key, offset, length as usize).await?;
        let (number, crc) = (parts.len() as u32 + 1, Crc64Nvme::of(&bytes));
        let mut stored = store.put_part(key, id, number, bytes.clone(), crc).await;
        for turn in 0..TURNS {
            match &stored {
                Err(error) if error.kind == ErrorKind::ChecksumMismatch => {}
                Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_secs(1 << turn)).await,
                _ => break,
            }
            stored = store.put_part(key, id, number, bytes.clone(), crc).await;
        }
        let etag = stored?;
        parts.push(Part { number, etag, crc, length });
        offset += u64::from(length);
    }
    store.complete(key, id, &parts).await
}

async fn read_at(file: &Arc<File>, key: &str, offset: u64, length: usize) -> Result<Bytes> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = BytesMut::zeroed(length);
        file.read_exact_at(&mut bytes, offset).map(|()| bytes.freeze())
    });
    read.await.map_err(|e| unreadable(key, e))?.map_err(|e| unreadable(key, e))
}

fn unreadable(key: &str, error: impl ToString) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, key, error)
}

/// The oldest version of a key that has data: the object.
pub async fn oldest_version(store: &dyn Store, key: &str) -> Result<Option<Version>> {
    Ok(store.versions(key).await?.into_iter().find(|version| !version.is_delete_marker))
}

/// The whole of a small object, with its version: the oldest one with data. `None` where there is none; an error where it
/// is larger than `limit` bytes.
pub async fn read_document(store: &dyn Store, key: &str, limit: usize) -> Result<Option<(String, Bytes)>> {
    let Some(version) = oldest_version(store, key).await? else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut chunks = store.read(key, &version.id, 0).await?;
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            return Err(StoreError::new(ErrorKind::Invalid, key, format!("larger than {limit} bytes")));
        }
    }
    Ok(Some((version.id, bytes.into())))
}

/// Counts locks that were set, and not read back: the store does not keep its word, or not yet. There from the start, at 0.
pub(crate) fn lock_not_read_back() -> Counter<u64> {
    global::meter("caselock-store").u64_counter("caselock_store_locks_not_read_back").build()
}

/// Sets lock and hold where they are less than `wanted`, and reads both back. Never an earlier date than is there, never a
/// hold lifted. Returns what was read back; an error that passes where it is not yet what is wanted.
pub async fn ensure_locked(store: &dyn Store, key: &str, version: &str, wanted: Lock) -> Result<Lock> {
    let before = store.lock(key, version).await?;
    let later = wanted.until.filter(|_| before.until < wanted.until);
    let is_held = !wanted.hold || before.hold;
    if later.is_none() && is_held {
        // The store says so now, after whatever set it.
        return Ok(before);
    }
    if let Some(until) = later {
        store.set_retention(key, version, until).await?;
    }
    if !is_held {
        store.set_hold(key, version, true).await?;
    }
    let after = store.lock(key, version).await?;
    if after.until < wanted.until || (wanted.hold && !after.hold) {
        lock_not_read_back().add(1, &[]);
        let detail = format!("{wanted:?} was wanted, {after:?} was read back");
        return Err(StoreError::new(ErrorKind::Unavailable, key, detail));
    }
    Ok(after)
}
