//! Calls about deadlines.

use caselock_domain::{
    id::RecordingId,
    reason::Reason,
    time::{Timestamp, from_proto},
};
use caselock_front::{Caller, Refusal};
use caselock_proto::v1 as proto;
use jiff::ToSpan;

use super::{Api, bureau, cases::required, page_size, refusal, show, token};
use crate::{Awaited, Wish};

/// Deadlines extended in one call: each is a locked object before the answer.
const MOST: usize = 200;
/// The longest extension, in days from now.
const LONGEST: i64 = 366;

impl Api {
    pub async fn list_deadlines(
        &self,
        caller: &Caller,
        asked: proto::ListDeadlinesRequest,
    ) -> Result<proto::ListDeadlinesResponse, Refusal> {
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        let invalid = |field: &str, expected: &str| Refusal::field(Reason::RequestInvalid, field, expected);
        let now = (self.clock)();
        if !asked.recording_id.is_empty() {
            let id = asked.recording_id.parse().map_err(|_| invalid("recording_id", "a recording's id"))?;
            let mut deadlines = Vec::new();
            if let Some(awaited) = self.awaited(&bureau, id).await? {
                deadlines.push(self.whole(id, awaited, now).await?);
            }
            return Ok(proto::ListDeadlinesResponse { deadlines, next_page_token: String::new() });
        }
        let standing = show::standing_of(asked.standing);
        let standing = standing.ok_or_else(|| invalid("standing", "one of the values of the schema"))?;
        let after = token(&asked.page_token)?.unwrap_or((i64::MIN, String::new()));
        let limit = page_size(asked.page_size)?;
        let found = Awaited::list(&self.cases.db, &bureau, standing, now, &after, limit).await.map_err(refusal)?;
        let next = found.last().filter(|_| found.len() == limit as usize);
        let next_page_token = next
            .map(|last| format!("{}.{}", last.deadline.last_moment().as_second(), last.recording_id))
            .unwrap_or_default();
        let deadlines = found.into_iter().map(|awaited| show::deadline(awaited, now)).collect();
        Ok(proto::ListDeadlinesResponse { deadlines, next_page_token })
    }

    pub async fn extend_deadlines(
        &self,
        caller: &Caller,
        asked: proto::ExtendDeadlinesRequest,
    ) -> Result<proto::ExtendDeadlinesResponse, Refusal> {
        if !caller.is_operator && !self.bureaus_extend_deadlines {
            return Err(Refusal::new(Reason::OperatorNeeded, "an operator extends deadlines here"));
        }
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        let invalid = |field: &str, expected: &str| Refusal::field(Reason::RequestInvalid, field, expected);
        if !(1..=MOST).contains(&asked.recording_ids.len()) {
            return Err(invalid("recording_ids", "1 to 200 ids"));
        }
        let now = (self.clock)();
        let latest = now.checked_add((LONGEST * 24).hours()).map_err(|_| invalid("until", "a time"))?;
        let until = asked.until.as_ref().and_then(from_proto).map(caselock_domain::time::whole_seconds);
        let until = until.filter(|until| *until <= latest);
        let until = until.ok_or_else(|| invalid("until", "a time, at most a year from now"))?;
        let wish = Wish {
            until,
            approver: required("approver", asked.approver)?,
            reason: required("reason", asked.reason)?,
            by: caller.name.clone(),
        };
        // Everything is looked at before anything is written.
        let unknown = |id: &str| {
            let message = format!("{id}: no recording of this bureau that has a deadline");
            Refusal::new(Reason::RecordingNotFound, message)
        };
        let mut ids = Vec::new();
        for id in &asked.recording_ids {
            let id: RecordingId = id.parse().map_err(|_| unknown(id))?;
            let awaited = self.awaited(&bureau, id).await?.ok_or_else(|| unknown(&id.to_string()))?;
            if until < awaited.deadline.due {
                return Err(invalid("until", &format!("not before the deadline of {id}, {}", awaited.deadline.due)));
            }
            ids.push(id);
        }
        let mut deadlines = Vec::new();
        for id in ids {
            self.cases.extend(&bureau, id, &wish).await.map_err(refusal)?;
            if let Some(awaited) = Awaited::find(&self.cases.db, &bureau, id).await.map_err(refusal)? {
                deadlines.push(self.whole(id, awaited, now).await?);
            }
        }
        Ok(proto::ExtendDeadlinesResponse { deadlines })
    }

    /// A deadline with its extensions.
    async fn whole(&self, id: RecordingId, awaited: Awaited, now: Timestamp) -> Result<proto::Deadline, Refusal> {
        let granted = self.cases.extensions(id).await.map_err(refusal)?.into_iter().map(show::extension).collect();
        Ok(proto::Deadline { granted, ..show::deadline(awaited, now) })
    }

    /// A recording's deadline; that there is none is only said after facts and events were read to their end.
    async fn awaited(
        &self,
        bureau: &caselock_domain::id::BureauId,
        id: RecordingId,
    ) -> Result<Option<Awaited>, Refusal> {
        if let Some(awaited) = Awaited::find(&self.cases.db, bureau, id).await.map_err(refusal)? {
            return Ok(Some(awaited));
        }
        self.following.catch_up().await.map_err(refusal)?;
        Awaited::find(&self.cases.db, bureau, id).await.map_err(refusal)
    }
}
