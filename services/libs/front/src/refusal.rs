//! Refusals with a stable reason, as gRPC's rich error model asks.

use std::{collections::HashMap, time::Duration};

use caselock_domain::{
    id::RecordingId,
    metadata::Violation,
    reason::{DOMAIN, Reason},
};
use caselock_log::LogError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// A request that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub reason: Reason,
    /// What would be right, for people.
    pub message: String,
    /// The fields that are wrong.
    pub violations: Vec<Violation>,
    /// The recording that stands in the way; told as `recording_id` in the metadata of `ErrorInfo`.
    pub recording: Option<RecordingId>,
}

impl Refusal {
    /// With these words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), violations: Vec::new(), recording: None }
    }

    /// Of one field, with what would be right.
    pub fn field(reason: Reason, field: &str, expected: impl Into<String>) -> Self {
        let expected = expected.into();
        let violation = Violation { field: field.to_owned(), expected: expected.clone() };
        Self { reason, message: format!("{field}: expected {expected}"), violations: vec![violation], recording: None }
    }

    /// The same words for a recording that is not there and for another bureau's.
    pub fn not_found() -> Self {
        Self::new(Reason::RecordingNotFound, "no such recording of this bureau: open the upload first")
    }

    /// How long to wait before the same may succeed; `None` where repeating does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.reason.retry_after()
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        tracing::error!(%error, "the log failed a request");
        Self::new(
            Reason::LogUnavailable,
            "the log can't take it now; nothing was changed that a repetition would not mend",
        )
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        let recording = refusal.recording.map(|id| ("recording_id".to_owned(), id.to_string()));
        details.set_error_info(refusal.reason.as_str(), DOMAIN, recording.into_iter().collect::<HashMap<_, _>>());
        if let Some(delay) = refusal.retry_after() {
            details.set_retry_info(Some(delay));
        }
        if !refusal.violations.is_empty() {
            let violations = refusal.violations.into_iter();
            details.set_bad_request(violations.map(|v| FieldViolation::new(v.field, v.expected)).collect::<Vec<_>>());
        }
        Status::with_error_details(code(refusal.reason), refusal.message, details)
    }
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::SegmentValueMismatch
        | Reason::SegmentOutOfRange
        | Reason::MetadataInvalid
        | Reason::RecordingEmpty
        | Reason::RecordingTooLarge
        | Reason::StreamInvalid
        | Reason::RequestInvalid => Code::InvalidArgument,
        Reason::SegmentConflict | Reason::OpenConflict | Reason::CaseConflict => Code::AlreadyExists,
        Reason::SealIncomplete
        | Reason::SealDigestMismatch
        | Reason::UploadClosed
        | Reason::CaseClosed
        | Reason::CaseNotClosed
        | Reason::Retained => Code::FailedPrecondition,
        Reason::RecordingNotFound | Reason::CaseNotFound => Code::NotFound,
        Reason::OperatorNeeded => Code::PermissionDenied,
        Reason::MemoryBudget | Reason::BacklogFull | Reason::Quota => Code::ResourceExhausted,
        Reason::Draining
        | Reason::SegmentLate
        | Reason::LogUnavailable
        | Reason::LockUnsettled
        | Reason::RegistryUnavailable => Code::Unavailable,
        Reason::IdentityInvalid => Code::Unauthenticated,
        Reason::CallUnsupported => Code::Unimplemented,
    }
}
