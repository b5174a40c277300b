//! The document that lists what was derived from an original.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{digest::Blake3, id::RecordingId};

/// The document's media type.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.derived.v1+json";

/// `derived.json`, the derivatives: created once, under the original's lock. Additive within v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The recording.
    pub recording_id: RecordingId,
    /// The generation.
    pub generation: u32,
    /// The digest of the original they were made from.
    pub original_blake3: Blake3,
    /// When they were made.
    pub derived_at: Timestamp,
    /// Empty where there are none.
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
    /// What it is, such as `proxy`.
    pub name: String,
    /// Its key in the store.
    pub object_key: String,
    /// Its version id.
    pub version: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes.
    pub blake3: Blake3,
    /// Its media type.
    pub content_type: String,
}
