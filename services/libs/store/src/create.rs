use bytes::Bytes;

use crate::{Crc64Nvme, ErrorKind, NewObject, Result, Store, StoreError, Version};

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
