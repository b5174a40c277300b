//! The stable reasons of refusals: `ErrorInfo.reason`, domain `caselock`. Clients decide by these, so none is renamed.

use std::time::Duration;

/// The `ErrorInfo.domain` of every reason.
pub const DOMAIN: &str = "caselock";

/// Why a request was refused. The list in `services/docs/errors.md` says what each means for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The bytes do not have the value their header names.
    SegmentValueMismatch,
    /// The segment is held with another value.
    SegmentConflict,
    /// The segment can't belong to a recording of this size.
    SegmentOutOfRange,
    /// Segments are missing.
    SealIncomplete,
    /// The segments held do not make up this size and digest.
    SealDigestMismatch,
    /// Fields are missing or wrong.
    MetadataInvalid,
    /// The recording was opened with other immutable fields.
    OpenConflict,
    /// No such recording of this bureau.
    RecordingNotFound,
    /// The recording has no bytes.
    RecordingEmpty,
    /// The recording is larger than can be stored.
    RecordingTooLarge,
    /// The upload takes no more segments: sealed, stored, abandoned, or of another generation.
    UploadClosed,
    /// The gateway has no memory for the segment now.
    MemoryBudget,
    /// The log holds as much as it may now.
    BacklogFull,
    /// The bureau has as many uploads open as it may.
    Quota,
    /// The gateway is going away: another stream, another gateway.
    Draining,
    /// The certificate does not name a bureau.
    IdentityInvalid,
    /// The stream's messages are out of order.
    StreamInvalid,
    /// The segment did not come in time: another stream.
    SegmentLate,
    /// The log can't be reached now.
    LogUnavailable,
    /// A field of a request is missing or wrong, or the request can't be read.
    RequestInvalid,
    /// No such call in this version, or in a form that is not spoken.
    CallUnsupported,
    /// No such case of this bureau.
    CaseNotFound,
    /// The case was opened before, with other words.
    CaseConflict,
    /// The case is closed.
    CaseClosed,
    /// The case is open.
    CaseNotClosed,
    /// Only an operator may do this.
    OperatorNeeded,
    /// What protects a recording is not certain now.
    LockUnsettled,
    /// The recording must still be kept, or it is not certain that it need not.
    Retained,
    /// The registry's database, its log or its store can't be reached now, or it is being rebuilt.
    RegistryUnavailable,
}

impl Reason {
    /// Every reason, for documents and tests.
    pub const ALL: [Reason; 29] = [
        Reason::SegmentValueMismatch,
        Reason::SegmentConflict,
        Reason::SegmentOutOfRange,
        Reason::SealIncomplete,
        Reason::SealDigestMismatch,
        Reason::MetadataInvalid,
        Reason::OpenConflict,
        Reason::RecordingNotFound,
        Reason::RecordingEmpty,
        Reason::RecordingTooLarge,
        Reason::UploadClosed,
        Reason::MemoryBudget,
        Reason::BacklogFull,
        Reason::Quota,
        Reason::Draining,
        Reason::IdentityInvalid,
        Reason::StreamInvalid,
        Reason::SegmentLate,
        Reason::LogUnavailable,
        Reason::RequestInvalid,
        Reason::CallUnsupported,
        Reason::CaseNotFound,
        Reason::CaseConflict,
        Reason::CaseClosed,
        Reason::CaseNotClosed,
        Reason::OperatorNeeded,
        Reason::LockUnsettled,
        Reason::Retained,
        Reason::RegistryUnavailable,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::SegmentValueMismatch => "SEGMENT_VALUE_MISMATCH",
            Reason::SegmentConflict => "SEGMENT_CONFLICT",
            Reason::SegmentOutOfRange => "SEGMENT_OUT_OF_RANGE",
            Reason::SealIncomplete => "SEAL_INCOMPLETE",
            Reason::SealDigestMismatch => "SEAL_DIGEST_MISMATCH",
            Reason::MetadataInvalid => "METADATA_INVALID",
            Reason::OpenConflict => "OPEN_CONFLICT",
            Reason::RecordingNotFound => "RECORDING_NOT_FOUND",
            Reason::RecordingEmpty => "RECORDING_EMPTY",
            Reason::RecordingTooLarge => "RECORDING_TOO_LARGE",
            Reason::UploadClosed => "UPLOAD_CLOSED",
            Reason::MemoryBudget => "MEMORY_BUDGET",
            Reason::BacklogFull => "BACKLOG_FULL",
            Reason::Quota => "QUOTA",
            Reason::Draining => "DRAINING",
            Reason::IdentityInvalid => "IDENTITY_INVALID",
            Reason::StreamInvalid => "STREAM_INVALID",
            Reason::SegmentLate => "SEGMENT_LATE",
            Reason::LogUnavailable => "LOG_UNAVAILABLE",
            Reason::RequestInvalid => "REQUEST_INVALID",
            Reason::CallUnsupported => "CALL_UNSUPPORTED",
            Reason::CaseNotFound => "CASE_NOT_FOUND",
            Reason::CaseConflict => "CASE_CONFLICT",
            Reason::CaseClosed => "CASE_CLOSED",
            Reason::CaseNotClosed => "CASE_NOT_CLOSED",
            Reason::OperatorNeeded => "OPERATOR_NEEDED",
            Reason::LockUnsettled => "LOCK_UNSETTLED",
            Reason::Retained => "RETAINED",
            Reason::RegistryUnavailable => "REGISTRY_UNAVAILABLE",
        }
    }

    /// The reason of a name; `None` for one this version does not know.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// How long to wait before the same request may succeed; `None` where repeating it does not help.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Reason::MemoryBudget => Some(Duration::from_millis(500)),
            Reason::BacklogFull => Some(Duration::from_secs(5)),
            Reason::Quota => Some(Duration::from_secs(30)),
            Reason::Draining | Reason::SegmentLate => Some(Duration::from_millis(100)),
            Reason::LogUnavailable | Reason::RegistryUnavailable => Some(Duration::from_secs(2)),
            Reason::LockUnsettled => Some(Duration::from_secs(60)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented() {
        let documented = include_str!("../../../docs/errors.md");
        for reason in Reason::ALL {
            assert!(
                documented.contains(&format!("| `{}` |", reason.as_str())),
                "{} is not in errors.md",
                reason.as_str()
            );
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }
}
