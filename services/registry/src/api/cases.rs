//! Calls about cases.

use caselock_domain::{
    case::{Case, CaseChange, CaseError, CaseId, CaseNumber, Kept},
    id::{BureauId, RecordingId},
    metadata::MAX_TEXT,
    reason::Reason,
    time::day_of,
};
use caselock_front::{Caller, Refusal};
use caselock_proto::v1 as proto;
use jiff::civil::Date;

use super::{Api, bureau, named, page_size, refusal, show};
use crate::{Recording, RegistryError, attention};

/// Recordings bound in one call: each is read back before the answer.
const MAX_BOUND: usize = 200;
/// Entries sent at once.
const ENTRIES: u32 = 100;

type Answer<T> = Result<T, Refusal>;

impl Api {
    pub async fn open_case(&self, caller: &Caller, asked: proto::OpenCaseRequest) -> Answer<proto::OpenCaseResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        let change = CaseChange::Opened {
            party: optional("party", asked.party)?,
            cause: optional("cause", asked.cause)?,
            full_recording_required: asked.full_recording_required,
        };
        let opened = self.cases.append(&bureau, &number, &caller.name, change.clone()).await;
        let case = match opened {
            Err(RegistryError::Case(CaseError::Opening)) => return Err(self.conflict(&bureau, &number, &change).await),
            opened => opened.map_err(refusal)?,
        };
        Ok(proto::OpenCaseResponse { case: Some(self.show(&case).await?) })
    }

    /// What the case says by now that differs from its opening, field by field.
    async fn conflict(&self, bureau: &BureauId, number: &CaseNumber, change: &CaseChange) -> Refusal {
        let case = match self.cases.find(bureau, number).await {
            Ok(Some(case)) => case,
            Ok(None) => return refusal(RegistryError::Case(CaseError::Opening)),
            Err(error) => return refusal(error),
        };
        let mut conflict =
            Refusal::new(Reason::CaseConflict, "the case was opened before, and says otherwise: amend it");
        let CaseChange::Opened { party, cause, full_recording_required } = change else { return conflict };
        let differs = [
            ("party", party.is_some() && *party != case.party),
            ("cause", cause.is_some() && *cause != case.cause),
            ("full_recording_required", *full_recording_required && !case.full_recording_required),
        ];
        for (field, _) in differs.into_iter().filter(|(_, differs)| *differs) {
            conflict.violations.extend(Refusal::field(Reason::CaseConflict, field, "what the case says").violations);
        }
        conflict
    }

    pub async fn amend_case(
        &self,
        caller: &Caller,
        asked: proto::AmendCaseRequest,
    ) -> Answer<proto::AmendCaseResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        let change = CaseChange::Amended {
            party: asked.party.map(|text| required("party", text)).transpose()?,
            cause: asked.cause.map(|text| required("cause", text)).transpose()?,
            full_recording_required: asked.full_recording_required,
        };
        let case = self.cases.append(&bureau, &number, &caller.name, change).await.map_err(refusal)?;
        Ok(proto::AmendCaseResponse { case: Some(self.show(&case).await?) })
    }

    pub async fn bind_recordings(
        &self,
        caller: &Caller,
        asked: proto::BindRecordingsRequest,
    ) -> Answer<proto::BindRecordingsResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        if !(1..=MAX_BOUND).contains(&asked.recording_ids.len()) {
            return Err(Refusal::field(Reason::RequestInvalid, "recording_ids", "1 to 200 ids"));
        }
        let unknown = |id: &str| {
            let message = format!("{id}: no such stored recording of this bureau");
            Refusal::new(Reason::RecordingNotFound, message)
        };
        let ids: Vec<RecordingId> =
            asked.recording_ids.iter().map(|id| id.parse().map_err(|_| unknown(id))).collect::<Result<_, _>>()?;
        if let Some(id) = self.unknown(&bureau, &ids).await? {
            return Err(unknown(&id.to_string()));
        }
        let mut recordings = ids.clone();
        if let Some(case) = self.cases.find(&bureau, &number).await.map_err(refusal)? {
            recordings.retain(|id| !case.evidence.contains(id));
        }
        let change = CaseChange::Bound { recordings };
        let case = self.cases.append(&bureau, &number, &caller.name, change).await.map_err(refusal)?;
        self.keeper.settle(ids.iter().map(ToString::to_string).collect()).await.map_err(refusal)?;
        Ok(proto::BindRecordingsResponse { case: Some(self.show(&case).await?) })
    }

    /// One of these that is not a stored recording of the bureau, the events having been read to their end.
    async fn unknown(&self, bureau: &BureauId, ids: &[RecordingId]) -> Answer<Option<RecordingId>> {
        for is_read in [false, true] {
            let mut missing = None;
            for id in ids {
                if Recording::find(&self.cases.db, bureau, *id).await.map_err(refusal)?.is_none() {
                    missing = Some(*id);
                    break;
                }
            }
            if missing.is_none() || is_read {
                return Ok(missing);
            }
            self.following.catch_up().await.map_err(refusal)?;
        }
        Ok(None)
    }

    pub async fn close_case(
        &self,
        caller: &Caller,
        asked: proto::CloseCaseRequest,
    ) -> Answer<proto::CloseCaseResponse> {
        if !caller.is_operator && !self.bureaus_close_cases {
            let message =
                "closing a case locks its recordings for years, which nobody can take back: an operator does it";
            return Err(Refusal::new(Reason::OperatorNeeded, message));
        }
        let (bureau, number) = named(caller, asked.case)?;
        let Some(period) = self.periods.classes.get(&asked.class) else {
            let known: Vec<_> = self.periods.classes.keys().map(String::as_str).collect();
            return Err(Refusal::field(Reason::RequestInvalid, "class", known.join(", ")));
        };
        let now = (self.clock)();
        let today = day_of(now);
        let on = match asked.closed_on.as_str() {
            "" => Some(today),
            text => text.parse::<Date>().ok().filter(|day| *day <= today),
        };
        let on = on.ok_or_else(|| {
            Refusal::field(Reason::RequestInvalid, "closed_on", "a day such as 2026-03-31, not in the future")
        })?;
        let start = self.periods.start;
        let kept = Kept::after(on, start, period.as_ref(), now).map_err(|error| refusal(error.into()))?;
        let period = period.map_or_else(|| "for ever".to_owned(), |period| format!("{period} from {start}"));
        let change = CaseChange::Closed { class: asked.class, on, kept, rule: period };
        let case = self.cases.append(&bureau, &number, &caller.name, change).await.map_err(refusal)?;
        self.keeper.wake();
        Ok(proto::CloseCaseResponse { case: Some(self.show(&case).await?) })
    }

    pub async fn reopen_case(
        &self,
        caller: &Caller,
        asked: proto::ReopenCaseRequest,
    ) -> Answer<proto::ReopenCaseResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        let change = CaseChange::Reopened { reason: required("reason", asked.reason)? };
        let case = self.cases.append(&bureau, &number, &caller.name, change).await.map_err(refusal)?;
        let evidence = self.cases.evidence(&case).await.map_err(refusal)?;
        self.keeper.settle(evidence).await.map_err(refusal)?;
        Ok(proto::ReopenCaseResponse { case: Some(self.show(&case).await?) })
    }

    pub async fn add_case_note(
        &self,
        caller: &Caller,
        asked: proto::AddCaseNoteRequest,
    ) -> Answer<proto::AddCaseNoteResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        let change = CaseChange::Noted {
            reason: required("reason", asked.reason)?,
            author: required("author", asked.author)?,
            reviewer: required("reviewer", asked.reviewer)?,
        };
        let case = self.cases.append(&bureau, &number, &caller.name, change).await.map_err(refusal)?;
        Ok(proto::AddCaseNoteResponse { case: Some(self.show(&case).await?) })
    }

    pub async fn get_case(&self, caller: &Caller, asked: proto::GetCaseRequest) -> Answer<proto::GetCaseResponse> {
        let (bureau, number) = named(caller, asked.case)?;
        let found = self.cases.find(&bureau, &number).await.map_err(refusal)?;
        let case = found.ok_or_else(|| refusal(RegistryError::Case(CaseError::Opening)))?;
        let entries = self.cases.entries(&case, asked.after_entry, ENTRIES).await.map_err(refusal)?;
        let entries = entries.into_iter().map(show::entry).collect();
        Ok(proto::GetCaseResponse { case: Some(self.show(&case).await?), entries })
    }

    pub async fn list_cases(
        &self,
        caller: &Caller,
        asked: proto::ListCasesRequest,
    ) -> Answer<proto::ListCasesResponse> {
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        let status = match proto::CaseStatus::try_from(asked.status) {
            Ok(proto::CaseStatus::Unspecified) => None,
            Ok(proto::CaseStatus::Open) => Some("open"),
            Ok(proto::CaseStatus::Closed) => Some("closed"),
            Ok(proto::CaseStatus::Permanent) => Some("permanent"),
            Err(_) => return Err(Refusal::field(Reason::RequestInvalid, "status", "one of the values of the schema")),
        };
        let flag = match show::flag_of(asked.flag) {
            Some(None) => None,
            Some(Some(flag)) if flag.is_of_case() => Some(flag),
            _ => return Err(Refusal::field(Reason::RequestInvalid, "flag", "a flag of cases: FLAG_FOOTAGE_MISSING")),
        };
        let size = page_size(asked.page_size)?;
        let numbers = self.cases.numbers(&bureau, status, flag, &asked.page_token, size).await.map_err(refusal)?;
        let next_page_token = numbers.last().filter(|_| numbers.len() == size as usize);
        let next_page_token = next_page_token.map(ToString::to_string).unwrap_or_default();
        let ids: Vec<_> = numbers.iter().map(|number| CaseId::derive(&bureau, number).to_string()).collect();
        let raised = attention::raised(&self.cases.db, &ids).await.map_err(refusal)?;
        let mut cases = Vec::new();
        for number in &numbers {
            let Some(case) = self.cases.find(&bureau, number).await.map_err(refusal)? else { continue };
            let id = case.id().to_string();
            let flags = raised.iter().filter(|(subject, _)| *subject == id).map(|(_, raised)| raised.clone()).collect();
            cases.push(show::case(&case, (0, 0), flags));
        }
        Ok(proto::ListCasesResponse { cases, next_page_token })
    }

    async fn show(&self, case: &Case) -> Answer<proto::Case> {
        let flags = attention::raised(&self.cases.db, &[case.id().to_string()]).await.map_err(refusal)?;
        let flags = flags.into_iter().map(|(_, raised)| raised).collect();
        Ok(show::case(case, self.cases.counts(case).await.map_err(refusal)?, flags))
    }
}

pub(super) fn required(field: &str, text: String) -> Answer<String> {
    optional(field, text)?.ok_or_else(|| wrong(field))
}

/// A text of a field; `None` where it is empty.
fn optional(field: &str, text: String) -> Answer<Option<String>> {
    let text = text.trim();
    if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(wrong(field));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn wrong(field: &str) -> Refusal {
    Refusal::field(Reason::RequestInvalid, field, format!("1 to {MAX_TEXT} characters, none a control character"))
}
