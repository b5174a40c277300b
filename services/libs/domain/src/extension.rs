//! An extension of a deadline (Article 13), as it lies in the store: locked, one after the other for each recording.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{BureauId, RecordingId};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.deadline-extension.v1+json";

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The bureau.
    pub bureau: BureauId,
    /// The recording.
    pub recording_id: RecordingId,
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Who wrote it: the identity of the caller's certificate.
    pub by: String,
    /// To when.
    pub until: Timestamp,
    /// 机构主管领导, who approved it.
    pub approver: String,
    /// Why.
    pub reason: String,
}
