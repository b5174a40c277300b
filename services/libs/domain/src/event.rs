//! The public events: CloudEvents 1.0 in Kafka's binary mode. Ids and times follow from the facts, so a repeated event is
//! recognisably the same.

use bytes::Bytes;
use caselock_proto::{events::v1 as proto, log::v1::MediaJob};
use jiff::Timestamp;
use prost::Message;

use crate::id::{BureauId, RecordingId, derived_uuid};

/// What an event reports, with its payload.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordingEvent {
    /// The footage must be sent again.
    ResendNeeded(proto::RecordingResendNeeded),
    /// The upload was given up.
    Abandoned(proto::RecordingAbandoned),
    /// Locked, with its receipt.
    Stored(proto::RecordingStored),
    /// Read back whole, and intact.
    Verified(proto::RecordingVerified),
    /// What was read back is not what was stored.
    VerificationFailed(proto::RecordingVerificationFailed),
    /// Derivatives are there.
    Derived(proto::RecordingDerived),
    /// No derivatives could be made.
    DerivationFailed(proto::RecordingDerivationFailed),
}

impl RecordingEvent {
    /// The CloudEvents type, and the event's rank within its generation.
    fn kind(&self) -> (&'static str, u64) {
        match self {
            Self::ResendNeeded(_) => ("io.caselock.recording.resend-needed.v1", 0),
            Self::Abandoned(_) => ("io.caselock.recording.abandoned.v1", 1),
            Self::Stored(_) => ("io.caselock.recording.stored.v1", 2),
            Self::Verified(_) => ("io.caselock.recording.verified.v1", 3),
            Self::VerificationFailed(_) => ("io.caselock.recording.verification-failed.v1", 3),
            Self::Derived(_) => ("io.caselock.recording.derived.v1", 4),
            Self::DerivationFailed(_) => ("io.caselock.recording.derivation-failed.v1", 4),
        }
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::ResendNeeded(m) => m.encode_to_vec(),
            Self::Abandoned(m) => m.encode_to_vec(),
            Self::Stored(m) => m.encode_to_vec(),
            Self::Verified(m) => m.encode_to_vec(),
            Self::VerificationFailed(m) => m.encode_to_vec(),
            Self::Derived(m) => m.encode_to_vec(),
            Self::DerivationFailed(m) => m.encode_to_vec(),
        }
    }

    /// The record of the event: headers of the CloudEvents Kafka binding, and the payload. `at` is the time of the fact
    /// it reports.
    pub fn record(&self, bureau: &BureauId, recording: RecordingId, generation: u32, at: Timestamp) -> EventRecord {
        let (kind, rank) = self.kind();
        let generation_bytes = generation.to_be_bytes();
        let fields: [&[u8]; 3] = [recording.as_bytes(), &generation_bytes, kind.as_bytes()];
        let id = derived_uuid("caselock.io 2026-11 event id v1", &fields);
        // Eight ranks a generation leave room for kinds to come; zero-padded, so that text sorts as numbers do.
        let sequence = format!("{:020}", u64::from(generation) * 8 + rank);
        let headers = vec![
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", id.to_string()),
            ("ce_source", format!("/caselock/bureaus/{bureau}")),
            ("ce_type", kind.to_owned()),
            ("ce_subject", recording.to_string()),
            ("ce_time", at.to_string()),
            ("ce_partitionkey", recording.to_string()),
            ("ce_sequence", sequence),
            ("content-type", "application/protobuf".to_owned()),
        ];
        EventRecord { key: recording.to_string().into(), headers, payload: self.payload().into() }
    }
}

/// An event as a record of `caselock.events.v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The record's key: the recording's id as text.
    pub key: Bytes,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The payload, protobuf.
    pub payload: Bytes,
}

/// A media job's record value.
pub fn media_job(job: &MediaJob) -> Bytes {
    job.encode_to_vec().into()
}
