//! Calls about what has run out.

use caselock_domain::{id::RecordingId, reason::Reason};
use caselock_front::{Caller, Refusal};
use caselock_proto::v1 as proto;

use super::{Api, bureau, cases::required, page_size, refusal, show, token};
use crate::Refused;

/// Recordings removed in one call.
const MOST: usize = 100;

impl Api {
    pub async fn list_disposable(
        &self,
        caller: &Caller,
        asked: proto::ListDisposableRequest,
    ) -> Result<proto::ListDisposableResponse, Refusal> {
        operator(caller)?;
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        let after = token(&asked.page_token)?.unwrap_or((i64::MIN, String::new()));
        let limit = page_size(asked.page_size)?;
        let found = self.disposer.list(&bureau, &after, limit).await.map_err(refusal)?;
        let next = found.last().filter(|_| found.len() == limit as usize);
        let next_page_token =
            next.map(|last| format!("{}.{}", last.locked_until, last.recording.id)).unwrap_or_default();
        let recordings = found.into_iter().map(show::disposable).collect::<Result<_, _>>().map_err(refusal)?;
        Ok(proto::ListDisposableResponse { recordings, next_page_token })
    }

    pub async fn dispose_recordings(
        &self,
        caller: &Caller,
        asked: proto::DisposeRecordingsRequest,
    ) -> Result<proto::DisposeRecordingsResponse, Refusal> {
        operator(caller)?;
        let bureau = bureau(caller, &asked.bureau, "bureau")?;
        if !(1..=MOST).contains(&asked.recording_ids.len()) {
            return Err(Refusal::field(Reason::RequestInvalid, "recording_ids", "1 to 100 ids"));
        }
        let reason = required("reason", asked.reason)?;
        let mut outcomes = Vec::new();
        for recording_id in asked.recording_ids {
            let disposed = match recording_id.parse::<RecordingId>() {
                Ok(id) => self.disposer.dispose(&bureau, id, &caller.name, &reason).await.map_err(refusal),
                Err(_) => Ok(Err(Refused::Unknown)),
            };
            // What became of one is told whatever becomes of the next.
            let (record_key, refused, detail) = match disposed {
                Err(refusal) => (String::new(), refusal.reason.as_str(), refusal.message),
                Ok(Ok(key)) => (key, "", String::new()),
                Ok(Err(Refused::Unknown)) => {
                    let detail = "no such stored recording of this bureau".to_owned();
                    (String::new(), Reason::RecordingNotFound.as_str(), detail)
                }
                Ok(Err(Refused::Retained(why))) => (String::new(), Reason::Retained.as_str(), why),
            };
            outcomes.push(proto::DisposalOutcome { recording_id, record_key, refused: refused.to_owned(), detail });
        }
        Ok(proto::DisposeRecordingsResponse { outcomes })
    }
}

fn operator(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_operator {
        return Ok(());
    }
    Err(Refusal::new(Reason::OperatorNeeded, "what has run out is looked through, and removed, by an operator"))
}
