//! The document that says what reading an original back found.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{digest::Blake3, id::RecordingId};

/// The document's media type.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.verification.v1+json";

/// `verification.json`, what reading the original back found: created once, under the original's lock. Additive within v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The recording.
    pub recording_id: RecordingId,
    /// The generation.
    pub generation: u32,
    /// The version that was read.
    pub version: String,
    /// When.
    pub verified_at: Timestamp,
    /// The bytes that were read; none where the object has gone.
    pub size: u64,
    /// Of the bytes that were read.
    pub blake3: Blake3,
    /// In hex.
    pub sha256: String,
    /// In hex (GB/T 32905).
    pub sm3: String,
    /// Whether size and BLAKE3 are the manifest's.
    pub intact: bool,
}
