//! The record of a disposal: what was removed, why that was lawful, and by whose order. It outlives what it tells of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Blake3,
    id::{BureauId, RecordingId},
    metadata::Metadata,
};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.disposal.v1+json";

/// The record of a disposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposal {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The bureau.
    pub bureau: BureauId,
    /// The recording.
    pub recording_id: RecordingId,
    /// The generation that is removed.
    pub generation: u32,
    /// The original's version.
    pub version: String,
    /// The original's size in bytes.
    pub size: u64,
    /// The original's BLAKE3.
    pub blake3: Blake3,
    /// What the bureau said of it.
    pub metadata: Metadata,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Until when it was locked, as read back before it was decided.
    pub locked_until: Timestamp,
    /// What that followed from: `floor`, `closed_case` or `earlier_lock`.
    pub because: String,
    /// The number of the case it followed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
    /// By whose order: the identity of the caller's certificate.
    pub by: String,
    /// Why, in the words of the order.
    pub reason: String,
    /// What lay in the store, and is removed.
    pub objects: Vec<Removed>,
}

/// An object that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its key.
    pub object_key: String,
    /// Its version.
    pub version: String,
}
