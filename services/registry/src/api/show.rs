//! What is known, as it goes over the wire.

use caselock_domain::{
    case::{Case, CaseChange, CaseEntry, Kept, Status},
    deadline::Standing,
    digest::Blake3,
    extension::Extension,
    flag::Flag,
    metadata::Metadata,
    time::{Timestamp, to_proto},
};
use caselock_proto::v1 as proto;

use crate::{Awaited, Found, RegistryError, attention::Raised, disposal::Disposable, moment};

/// A case, with how many recordings it has, of how many the store does not agree yet, and its flags.
pub fn case(case: &Case, (recordings, unsettled): (u64, u64), flags: Vec<Raised>) -> proto::Case {
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
        flags: flags.into_iter().map(flag).collect(),
    }
}

/// A flag that is raised.
fn flag(raised: Raised) -> proto::RaisedFlag {
    let flag = flag_to_proto(raised.flag) as i32;
    proto::RaisedFlag { flag, detail: raised.detail, raised_at: Some(to_proto(raised.at)) }
}

fn flag_to_proto(flag: Flag) -> proto::Flag {
    match flag {
        Flag::DocumentTimes => proto::Flag::DocumentTimes,
        Flag::NoticeMissing => proto::Flag::NoticeMissing,
        Flag::ClockWrong => proto::Flag::ClockWrong,
        Flag::Late => proto::Flag::Late,
        Flag::SequenceGap => proto::Flag::SequenceGap,
        Flag::CaseNeverOpened => proto::Flag::CaseNeverOpened,
        Flag::FootageMissing => proto::Flag::FootageMissing,
    }
}

/// The flag that is asked for; `None` where none is.
pub fn flag_of(asked: i32) -> Option<Option<Flag>> {
    match proto::Flag::try_from(asked).ok()? {
        proto::Flag::Unspecified => Some(None),
        asked => Flag::ALL.into_iter().find(|flag| flag_to_proto(*flag) == asked).map(Some),
    }
}

fn standing_to_proto(standing: Standing) -> proto::DeadlineStanding {
    match standing {
        Standing::Awaited => proto::DeadlineStanding::Awaited,
        Standing::OnTime => proto::DeadlineStanding::OnTime,
        Standing::Extended => proto::DeadlineStanding::Extended,
        Standing::Late => proto::DeadlineStanding::Late,
        Standing::Overdue => proto::DeadlineStanding::Overdue,
    }
}

/// The standing that is asked for; `None` where none is.
pub fn standing_of(asked: i32) -> Option<Option<Standing>> {
    match proto::DeadlineStanding::try_from(asked).ok()? {
        proto::DeadlineStanding::Unspecified => Some(None),
        asked => Standing::ALL.into_iter().find(|standing| standing_to_proto(*standing) == asked).map(Some),
    }
}

/// A deadline, and how it stands now.
pub fn deadline(awaited: Awaited, now: Timestamp) -> proto::Deadline {
    let standing = standing_to_proto(awaited.standing(now)) as i32;
    let Awaited { recording_id, bureau, original_name, unit, device_id, ended_at, deadline, extensions, stored_at } =
        awaited;
    proto::Deadline {
        recording_id,
        bureau,
        original_name,
        unit,
        device_id: device_id.unwrap_or_default(),
        ended_at: Some(to_proto(ended_at)),
        due: Some(to_proto(deadline.due)),
        provisional: deadline.is_provisional,
        extended_to: deadline.extended_to.map(to_proto),
        stored_at: stored_at.map(to_proto),
        standing,
        extensions,
        granted: Vec::new(),
    }
}

/// An extension of a deadline.
pub fn extension(extension: Extension) -> proto::DeadlineExtension {
    let Extension { until, approver, reason, by, at, .. } = extension;
    proto::DeadlineExtension { until: Some(to_proto(until)), approver, reason, by, at: Some(to_proto(at)) }
}

/// What may be removed.
pub fn disposable(disposable: Disposable) -> Result<proto::Disposable, RegistryError> {
    let Disposable { recording, locked_until, follows, follows_case } = disposable;
    Ok(proto::Disposable {
        recording_id: recording.id,
        bureau: recording.bureau,
        original_name: recording.original_name,
        size: recording.size,
        stored_at: Some(to_proto(moment(recording.stored_at)?)),
        locked_until: Some(to_proto(moment(locked_until)?)),
        kept_because: because(Some(&follows)) as i32,
        kept_for_case: follows_case.unwrap_or_default(),
    })
}

fn because(follows: Option<&str>) -> proto::KeptBecause {
    match follows {
        Some("floor") => proto::KeptBecause::Floor,
        Some("open_case") => proto::KeptBecause::OpenCase,
        Some("closed_case") => proto::KeptBecause::ClosedCase,
        Some("earlier_lock") => proto::KeptBecause::EarlierLock,
        Some("permanent_case") => proto::KeptBecause::PermanentCase,
        _ => proto::KeptBecause::Unspecified,
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
    let Found { recording, cases, locked_until, hold, follows, follows_case, is_settled, flags, awaited } = found;
    let row = |error: &dyn std::fmt::Display| RegistryError::Row(format!("{}: {error}", recording.id));
    let metadata: Metadata = serde_json::from_str(&recording.metadata).map_err(|e| row(&e))?;
    let blake3 = Blake3::try_from(recording.blake3.clone()).map_err(|e| row(&e))?;
    let moment = |seconds| moment(seconds).map(to_proto);
    let verification = match recording.verification.as_deref() {
        Some("intact") => proto::VerificationState::Intact,
        Some(_) => proto::VerificationState::Damaged,
        None => proto::VerificationState::Pending,
    };
    let standing = awaited.as_ref().map(|awaited| standing_to_proto(awaited.standing(Timestamp::UNIX_EPOCH)));
    Ok(proto::FoundRecording {
        metadata: Some(metadata.to_proto()),
        size: recording.size,
        blake3: blake3.0.to_vec().into(),
        stored_at: Some(moment(recording.stored_at)?),
        used_at: Some(moment(recording.used_at)?),
        cases,
        locked_until: locked_until.map(moment).transpose()?,
        legal_hold: hold,
        kept_because: because(follows.as_deref()) as i32,
        kept_for_case: follows_case.unwrap_or_default(),
        settled: is_settled,
        recording_id: recording.id,
        bureau: recording.bureau,
        object_key: recording.object_key,
        flags: flags.into_iter().map(flag).collect(),
        deadline: standing.unwrap_or_default() as i32,
        due: awaited.map(|awaited| to_proto(awaited.deadline.last_moment())),
        verification: verification as i32,
    })
}
