//! The public events: CloudEvents 1.0 in Kafka's binary mode. Ids and times follow from the facts, so a repeated event is
//! recognisably the same.

use bytes::Bytes;
use caselock_proto::{events::v1 as proto, log::v1::MediaJob};
use jiff::Timestamp;
use prost::Message;

use crate::{
    case::{CaseChange, CaseEntry, CaseId, Kept},
    flag::Flag,
    id::{BureauId, RecordingId, derived_uuid},
    time::to_proto,
};

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
        let id = derived_uuid("caselock.io 2026-11 event id v1", &fields).to_string();
        // Eight ranks a generation leave room for kinds to come.
        let sequence = u64::from(generation) * 8 + rank;
        let (source, subject) = (format!("/caselock/bureaus/{bureau}"), recording.to_string());
        EventRecord::new(Envelope { id, source, kind, subject, at, sequence }, self.payload().into())
    }
}

/// What the registry publishes, with its payload. Each has an id that follows from what it tells, so it is told once.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryEvent {
    /// A recording was removed.
    Disposed(proto::RecordingDisposed),
    /// A case was opened.
    CaseOpened(proto::CaseOpened),
    /// Something was added to a case's record.
    CaseAmended(proto::CaseAmended),
    /// A case was closed.
    CaseClosed(proto::CaseClosed),
    /// A closed case goes on.
    CaseReopened(proto::CaseReopened),
    /// A deadline is near, and the recording not stored.
    DeadlineNear(proto::DeadlineNear),
    /// A deadline has passed, and the recording was not stored.
    DeadlineMissed(proto::DeadlineMissed),
    /// A deadline was extended.
    DeadlineExtended(proto::DeadlineExtended),
    /// What protects a recording has changed. With what tells one change from the next.
    RetentionChanged(proto::RetentionChanged, String),
    /// An object is protected by less than was read back before. With what tells one finding from the next.
    RetentionDrifted(proto::RetentionDrifted, String),
    /// Something should be looked at.
    FlagRaised(proto::FlagRaised),
}

/// What the sources of the registry's events end with: its sequences are its own.
pub const REGISTRY: &str = "/registry";

impl RegistryEvent {
    /// What an entry of a case's record tells. No names of people.
    pub fn of_entry(entry: &CaseEntry) -> Self {
        let case_id = CaseId::derive(&entry.bureau, &entry.number).to_string();
        let (bureau, number, seq) = (entry.bureau.to_string(), entry.number.to_string(), entry.seq);
        let amended = |kind: &str, recording_ids| {
            let (case_id, bureau, number, kind) = (case_id.clone(), bureau.clone(), number.clone(), kind.to_owned());
            Self::CaseAmended(proto::CaseAmended { case_id, bureau, number, entry: seq, kind, recording_ids })
        };
        match &entry.change {
            CaseChange::Opened { full_recording_required, .. } => Self::CaseOpened(proto::CaseOpened {
                case_id,
                bureau,
                number,
                entry: seq,
                full_recording_required: *full_recording_required,
            }),
            CaseChange::Amended { .. } => amended("amended", Vec::new()),
            CaseChange::Bound { recordings } => amended("bound", recordings.iter().map(ToString::to_string).collect()),
            CaseChange::Noted { .. } => amended("noted", Vec::new()),
            CaseChange::Closed { class, on, kept, .. } => Self::CaseClosed(proto::CaseClosed {
                case_id,
                bureau,
                number,
                entry: seq,
                class: class.clone(),
                closed_on: on.to_string(),
                kept_until: match kept {
                    Kept::Until { until } => Some(to_proto(*until)),
                    Kept::Permanently => None,
                },
            }),
            CaseChange::Reopened { .. } => {
                Self::CaseReopened(proto::CaseReopened { case_id, bureau, number, entry: seq })
            }
        }
    }

    /// A flag of a recording, or of a case.
    pub fn flag(bureau: &BureauId, subject: FlagSubject<'_>, flag: Flag, detail: &str) -> Self {
        let (recording_id, case_id) = match subject {
            FlagSubject::Recording(id) => (id.to_owned(), String::new()),
            FlagSubject::Case(id) => (String::new(), id.to_owned()),
        };
        let (bureau, flag, detail) = (bureau.to_string(), flag.as_str().to_owned(), detail.to_owned());
        Self::FlagRaised(proto::FlagRaised { recording_id, case_id, bureau, flag, detail })
    }

    /// The CloudEvents type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Disposed(_) => "io.caselock.recording.disposed.v1",
            Self::CaseOpened(_) => "io.caselock.case.opened.v1",
            Self::CaseAmended(_) => "io.caselock.case.amended.v1",
            Self::CaseClosed(_) => "io.caselock.case.closed.v1",
            Self::CaseReopened(_) => "io.caselock.case.reopened.v1",
            Self::DeadlineNear(_) => "io.caselock.deadline.near.v1",
            Self::DeadlineMissed(_) => "io.caselock.deadline.missed.v1",
            Self::DeadlineExtended(_) => "io.caselock.deadline.extended.v1",
            Self::RetentionChanged(..) => "io.caselock.retention.changed.v1",
            Self::RetentionDrifted(..) => "io.caselock.retention.drifted.v1",
            Self::FlagRaised(_) => "io.caselock.flag.raised.v1",
        }
    }

    /// The recording or the case it is about.
    pub fn subject(&self) -> &str {
        match self {
            Self::Disposed(m) => &m.recording_id,
            Self::CaseOpened(m) => &m.case_id,
            Self::CaseAmended(m) => &m.case_id,
            Self::CaseClosed(m) => &m.case_id,
            Self::CaseReopened(m) => &m.case_id,
            Self::DeadlineNear(m) => &m.recording_id,
            Self::DeadlineMissed(m) => &m.recording_id,
            Self::DeadlineExtended(m) => &m.recording_id,
            Self::RetentionChanged(m, _) => &m.recording_id,
            Self::RetentionDrifted(m, _) => one_of(&m.recording_id, &m.case_id),
            Self::FlagRaised(m) => one_of(&m.recording_id, &m.case_id),
        }
    }

    /// The id: of what is told, and not of how often.
    pub fn id(&self) -> String {
        let tells_apart = match self {
            Self::Disposed(m) => format!("{}/{}", m.generation, m.version),
            Self::CaseOpened(m) => m.entry.to_string(),
            Self::CaseAmended(m) => m.entry.to_string(),
            Self::CaseClosed(m) => m.entry.to_string(),
            Self::CaseReopened(m) => m.entry.to_string(),
            // A deadline that was extended, or that a newer calendar moved, is another.
            Self::DeadlineNear(m) => m.due.map_or(0, |due| due.seconds).to_string(),
            Self::DeadlineMissed(m) => m.due.map_or(0, |due| due.seconds).to_string(),
            Self::DeadlineExtended(m) => m.extensions.to_string(),
            Self::RetentionChanged(_, change) => change.clone(),
            Self::RetentionDrifted(m, finding) => format!("{}/{finding}", m.object_key),
            Self::FlagRaised(m) => m.flag.clone(),
        };
        let fields = [self.kind(), self.subject(), &tells_apart].map(str::as_bytes);
        derived_uuid("caselock.io 2026-11 registry event id v1", &fields).to_string()
    }

    /// The payload, protobuf.
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Self::Disposed(m) => m.encode_to_vec(),
            Self::CaseOpened(m) => m.encode_to_vec(),
            Self::CaseAmended(m) => m.encode_to_vec(),
            Self::CaseClosed(m) => m.encode_to_vec(),
            Self::CaseReopened(m) => m.encode_to_vec(),
            Self::DeadlineNear(m) => m.encode_to_vec(),
            Self::DeadlineMissed(m) => m.encode_to_vec(),
            Self::DeadlineExtended(m) => m.encode_to_vec(),
            Self::RetentionChanged(m, _) => m.encode_to_vec(),
            Self::RetentionDrifted(m, _) => m.encode_to_vec(),
            Self::FlagRaised(m) => m.encode_to_vec(),
        }
    }
}

/// The one that is set.
fn one_of<'a>(recording: &'a str, case: &'a str) -> &'a str {
    if recording.is_empty() { case } else { recording }
}

/// What a flag is raised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagSubject<'a> {
    /// A recording's id.
    Recording(&'a str),
    /// A case's id.
    Case(&'a str),
}

/// The attributes of a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The id.
    pub id: String,
    /// The source.
    pub source: String,
    /// The type.
    pub kind: &'a str,
    /// The recording or the case.
    pub subject: String,
    /// The time of the fact it reports.
    pub at: Timestamp,
    /// Its place among the events of its source about the subject.
    pub sequence: u64,
}

impl EventRecord {
    /// Headers of the CloudEvents Kafka binding, and the payload.
    pub fn new(envelope: Envelope<'_>, payload: Bytes) -> Self {
        let Envelope { id, source, kind, subject, at, sequence } = envelope;
        let headers = vec![
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", id),
            ("ce_source", source),
            ("ce_type", kind.to_owned()),
            ("ce_subject", subject.clone()),
            ("ce_time", at.to_string()),
            ("ce_partitionkey", subject.clone()),
            // Zero-padded, so that text sorts as numbers do.
            ("ce_sequence", format!("{sequence:020}")),
            ("content-type", "application/protobuf".to_owned()),
        ];
        Self { key: subject.into(), headers, payload }
    }
}

/// An event as a record of `caselock.events.v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The record's key: the recording's or the case's id as text.
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
