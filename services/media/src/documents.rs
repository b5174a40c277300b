//! How media writes its documents beside the original: created once, under the original's lock.

use bytes::Bytes;
use caselock_store::{Created, Lock, NewObject, Store, create, ensure_locked, read_document};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::JobError;

/// Neither document is larger than this.
const LIMIT: usize = 4 << 20;

/// Reads a document, if it is there.
pub async fn read<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<T>, JobError> {
    let Some((_, bytes)) = read_document(store, key, LIMIT).await? else { return Ok(None) };
    let document = serde_json::from_slice(&bytes);
    document.map(Some).map_err(|e| JobError::impossible("DOCUMENT_UNREADABLE", format!("{key}: {e}")))
}

/// Writes a document unless it is there, locks it like the original, and returns what stands there.
pub async fn write<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    key: &str,
    media_type: &str,
    lock: Lock,
    document: T,
) -> Result<T, JobError> {
    let bytes: Bytes =
        serde_json::to_vec_pretty(&document).map_err(|e| JobError::impossible("DOCUMENT_UNWRITABLE", e))?.into();
    let created = create(store, key, &object(key, media_type, lock)?, bytes).await?;
    ensure_locked(store, key, created.version(), lock).await?;
    match created {
        Created::New(_) => Ok(document),
        Created::Existing(_) => {
            let there = read(store, key).await?;
            there.ok_or_else(|| JobError::impossible("DOCUMENT_UNREADABLE", format!("{key} has gone")))
        }
    }
}

/// An object that is locked like the original from its creation on.
pub fn object(key: &str, content_type: &str, lock: Lock) -> Result<NewObject, JobError> {
    let lock_until = lock.until.ok_or_else(|| JobError::impossible("ORIGINAL_NOT_LOCKED", key))?;
    Ok(NewObject { content_type: content_type.to_owned(), part_size: 0, lock_until })
}
