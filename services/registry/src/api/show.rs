//! What is known, as it goes over the wire.

use caselock_domain::{
    case::{Case, CaseChange, CaseEntry, Kept, Status},
    digest::Blake3,
    metadata::Metadata,
    time::{Timestamp, to_proto},
};
use caselock_proto::v1 as proto;

use crate::{Found, RegistryError};

/// A case, with how many recordings it has, and of how many the store does not agree yet.
pub fn case(case: &Case, (recordings, unsettled): (u64, u64)) -> proto::Case {
    let (status, kept_until) = match case.status {
        Status::Open => (proto::CaseStatus::Open, None),
        Status::Closed(Kept::Until { until }) => (proto::CaseStatus::Closed, Some(to_proto(until))),
        Status::Closed(Kept::Permanently) => (proto::CaseStatus::Permanent, None),
    };
    let (class, closed_on) = case.closing.clone().unzip();
    proto::Case {
        bureau: case.bureau.to_string(),
        number: case.number.to_string(),
        status: status as i32,
        party: case.party.clone().unwrap_or_default(),
        cause: case.cause.clone().unwrap_or_default(),
        full_recording_required: case.full_recording_required,
        opened_at: Some(to_proto(case.opened_at)),
        class: class.unwrap_or_default(),
        closed_on: closed_on.map(|day| day.to_string()).unwrap_or_default(),
        kept_until,
        recordings,
        unsettled,
        entries: case.seq,
    }
}

/// An entry with its document.
pub fn entry((entry, document): (CaseEntry, String)) -> proto::CaseEntry {
    let kind = match entry.change {
        CaseChange::Opened { .. } => "opened",
        CaseChange::Amended { .. } => "amended",
        CaseChange::Bound { .. } => "bound",
        CaseChange::Closed { .. } => "closed",
        CaseChange::Reopened { .. } => "reopened",
        CaseChange::Noted { .. } => "noted",
    };
    proto::CaseEntry { seq: entry.seq, at: Some(to_proto(entry.at)), by: entry.by, kind: kind.into(), document }
}

/// A recording that was found.
pub fn recording(found: Found) -> Result<proto::FoundRecording, RegistryError> {
    let Found { recording, cases, locked_until, hold, follows, follows_case, is_settled } = found;
    let row = |error: &dyn std::fmt::Display| RegistryError::Row(format!("{}: {error}", recording.id));
    let metadata: Metadata = serde_json::from_str(&recording.metadata).map_err(|e| row(&e))?;
    let blake3 = Blake3::try_from(recording.blake3.clone()).map_err(|e| row(&e))?;
    let moment = |seconds| Timestamp::from_second(seconds).map(to_proto).map_err(|e| row(&e));
    let kept_because = match follows.as_deref() {
        Some("floor") => proto::KeptBecause::Floor,
        Some("open_case") => proto::KeptBecause::OpenCase,
        Some("closed_case") => proto::KeptBecause::ClosedCase,
        Some("permanent_case") => proto::KeptBecause::PermanentCase,
        _ => proto::KeptBecause::Unspecified,
    };
    Ok(proto::FoundRecording {
        metadata: Some(metadata.to_proto()),
        size: recording.size,
        blake3: blake3.0.to_vec().into(),
        stored_at: Some(moment(recording.stored_at)?),
        used_at: Some(moment(recording.used_at)?),
        cases,
        locked_until: locked_until.map(moment).transpose()?,
        legal_hold: hold,
        kept_because: kept_because as i32,
        kept_for_case: follows_case.unwrap_or_default(),
        settled: is_settled,
        recording_id: recording.id,
        bureau: recording.bureau,
        object_key: recording.object_key,
    })
}
