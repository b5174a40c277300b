//! What media writes beside the original: `verification.json` and `derived.json`. Created once, under the original's lock.

use bytes::Bytes;
use caselock_domain::{digest::Blake3, id::RecordingId, time::Timestamp};
use caselock_store::{Created, Lock, NewObject, Store, create, ensure_locked, read_document};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::JobError;

/// The media type of `verification.json`.
pub const VERIFICATION: &str = "application/vnd.caselock.verification.v1+json";
/// The media type of `derived.json`.
pub const DERIVED: &str = "application/vnd.caselock.derived.v1+json";
/// Neither document is larger than this.
const LIMIT: usize = 4 << 20;

/// What reading the original back found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub media_type: String,
    pub recording_id: RecordingId,
    pub generation: u32,
    /// The version that was read.
    pub version: String,
    pub verified_at: Timestamp,
    pub size: u64,
    pub blake3: Blake3,
    /// In hex.
    pub sha256: String,
    /// In hex (GB/T 32905).
    pub sm3: String,
    /// Whether size and BLAKE3 are the manifest's.
    pub intact: bool,
}

/// The derivatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    pub media_type: String,
    pub recording_id: RecordingId,
    pub generation: u32,
    /// The digest of the original they were made from.
    pub original_blake3: Blake3,
    pub derived_at: Timestamp,
    pub derivatives: Vec<DerivedObject>,
    /// Why there are none, as a stable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What the worker found in the container; nothing here is verified.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub probe: serde_json::Value,
    /// What a person looking at the derivatives should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One derivative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedObject {
    pub name: String,
    pub object_key: String,
    pub version: String,
    pub size: u64,
    pub blake3: Blake3,
    pub content_type: String,
}

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
