//! Calls about recordings.

use caselock_domain::{
    case::CaseNumber,
    deadline::Standing,
    flag::Flag,
    id::RecordingId,
    reason::Reason,
    time::{ProtoTimestamp, from_proto},
};
use caselock_front::{Caller, Refusal};
use caselock_proto::v1 as proto;

use super::{Api, bureau, page_size, refusal, show, token};
use crate::{Wanted, deadlines, find};

impl Api {
    pub async fn find_recordings(
        &self,
        caller: &Caller,
        asked: proto::FindRecordingsRequest,
    ) -> Result<proto::FindRecordingsResponse, Refusal> {
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        let invalid = |field: &str, expected: &str| Refusal::field(Reason::RequestInvalid, field, expected);
        let number = match asked.case_number.as_str() {
            "" => String::new(),
            _ => CaseNumber::try_from(asked.case_number).map_err(|e| invalid("case_number", e.expected))?.into(),
        };
        let word = |field| invalid(field, "one of the values of the schema");
        let flag = show::flag_of(asked.flag).ok_or_else(|| word("flag"))?;
        if flag.is_some_and(Flag::is_of_case) {
            return Err(invalid("flag", "a flag of recordings: cases are found by ListCases"));
        }
        let standing = show::standing_of(asked.deadline).ok_or_else(|| word("deadline"))?;
        if matches!(standing, Some(Standing::Awaited | Standing::Overdue)) {
            return Err(invalid("deadline", "on time, extended or late: what is not stored is found by ListDeadlines"));
        }
        let verification = match proto::VerificationState::try_from(asked.verification) {
            Ok(proto::VerificationState::Unspecified) => None,
            Ok(proto::VerificationState::Pending) => Some("pending"),
            Ok(proto::VerificationState::Intact) => Some("intact"),
            Ok(proto::VerificationState::Damaged) => Some("damaged"),
            Err(_) => return Err(word("verification")),
        };
        // Those that fewest recordings share come first.
        let facets = [
            ("case", number),
            ("party", asked.party),
            ("flag", flag.map(|flag| flag.as_str().to_owned()).unwrap_or_default()),
            ("device", asked.device_id),
            ("officer", asked.officer),
            ("cause", asked.cause),
            ("unit", asked.unit),
            ("deadline", standing.map(|standing| deadlines::word(standing).to_owned()).unwrap_or_default()),
        ];
        let id = match asked.recording_id.as_str() {
            "" => None,
            id => Some(id.parse::<RecordingId>().map_err(|_| invalid("recording_id", "a recording's id"))?.to_string()),
        };
        let after = token(&asked.page_token)?;
        let limit = page_size(asked.page_size)?;
        let wanted = Wanted {
            facets: facets.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            used_from: moment("used_from", asked.used_from)?,
            used_before: moment("used_before", asked.used_before)?,
            id,
            after,
            limit,
            verification,
        };
        let found = find(&self.cases.db, &bureau, &wanted).await.map_err(refusal)?;
        let next = found.last().filter(|_| found.len() == limit as usize);
        let next_page_token =
            next.map(|last| format!("{}.{}", last.recording.used_at, last.recording.id)).unwrap_or_default();
        let recordings = found.into_iter().map(show::recording).collect::<Result<_, _>>().map_err(refusal)?;
        Ok(proto::FindRecordingsResponse { recordings, next_page_token })
    }
}

/// The first whole second that is not before a moment: times are kept in whole seconds.
fn moment(field: &str, at: Option<ProtoTimestamp>) -> Result<Option<i64>, Refusal> {
    let Some(at) = at else { return Ok(None) };
    let at = from_proto(&at).ok_or_else(|| Refusal::field(Reason::RequestInvalid, field, "a time"))?;
    let nanos = at.as_nanosecond();
    Ok(Some(nanos.div_euclid(1_000_000_000) as i64 + i64::from(nanos.rem_euclid(1_000_000_000) > 0)))
}
