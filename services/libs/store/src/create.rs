use bytes::Bytes;
use futures::TryStreamExt;

use crate::{Crc64Nvme, ErrorKind, Lock, NewObject, Result, Store, StoreError, Version};

/// What [`create`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was created, as this version.
    New(String),
    /// The key had an object already, this version.
    Existing(String),
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

/// Sets lock and hold where they are less than `wanted`, and reads both back. Never an earlier date than is there, never a
/// hold lifted. Returns what was read back; an error that passes where it is not yet what is wanted.
pub async fn ensure_locked(store: &dyn Store, key: &str, version: &str, wanted: Lock) -> Result<Lock> {
    let before = store.lock(key, version).await?;
    if let Some(until) = wanted.until.filter(|_| before.until < wanted.until) {
        store.set_retention(key, version, until).await?;
    }
    if wanted.hold && !before.hold {
        store.set_hold(key, version, true).await?;
    }
    // Always read anew: the receipt stands for what the store says now.
    let after = store.lock(key, version).await?;
    if after.until < wanted.until || (wanted.hold && !after.hold) {
        let detail = format!("{wanted:?} was wanted, {after:?} was read back");
        return Err(StoreError::new(ErrorKind::Unavailable, key, detail));
    }
    Ok(after)
}
