//! The document beside every original. With it the bucket alone is the whole truth: a registry can be rebuilt from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Blake3,
    id::{BureauId, IdempotencyKey, RecordingId},
    metadata::Metadata,
    receipt::Envelope,
};

/// The manifest's media type.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.manifest.v1+json";

/// A manifest is never larger than this: 10,000 segments of 64 hex digits, and the metadata.
pub const LIMIT: usize = 4 << 20;

/// `manifest.json`: created once, under the original's lock, never rewritten. Additive within v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The recording.
    pub recording_id: RecordingId,
    /// The generation.
    pub generation: u32,
    /// The bureau.
    pub bureau: BureauId,
    /// The key the id is derived from.
    pub idempotency_key: IdempotencyKey,
    /// What the bureau said when it opened the upload.
    pub metadata: Metadata,
    /// The size in bytes.
    pub size: u64,
    /// The BLAKE3 of the whole.
    pub blake3: Blake3,
    /// The full object's CRC-64/NVME, 16 hex digits: what the store verified.
    pub crc64nvme: String,
    /// The length of every segment but the last.
    pub segment_size: u32,
    /// Each segment's BLAKE3 subtree chaining value, in hex, in order.
    pub segments: Vec<String>,
    /// The original's key.
    pub object_key: String,
    /// The original's version id.
    pub version: String,
    /// How the lock's date was derived.
    pub retention: Retention,
    /// The signed receipt.
    pub receipt: Envelope,
}

/// How the lock's date was derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The moment the floor counts from.
    pub stored_at: Timestamp,
    /// The period, ISO 8601.
    pub period: String,
    /// The zone whose days count.
    pub time_zone: String,
    /// The date the lock was set to.
    pub locked_until: Timestamp,
    /// Whether a legal hold was set, because a case was named.
    pub legal_hold: bool,
    /// The article that asks for it.
    pub rule: String,
}
