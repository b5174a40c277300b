//! `AnnounceRecordings`.

use std::collections::BTreeSet;

use caselock_domain::{
    fact::{Announced, Fact, FactKey, Subject},
    id::{BureauId, IdempotencyKey, RecordingId},
    metadata::{Metadata, Violation},
    reason::Reason,
};
use caselock_front::Refusal;
use caselock_proto::v1 as proto;
use futures::{StreamExt, TryStreamExt, stream};

use super::Ingest;

/// Announcements in one call.
const MOST: usize = 500;
/// Facts on their way to the log at once.
const AT_ONCE: usize = 32;

impl Ingest {
    pub(super) async fn announce_recordings(
        &self,
        bureau: BureauId,
        request: proto::AnnounceRecordingsRequest,
    ) -> Result<proto::AnnounceRecordingsResponse, Refusal> {
        let announced = self.validate_announcements(bureau.clone(), &request)?;
        let recording_ids = announced.iter().map(|(id, _)| id.to_string()).collect();
        // "Not known" is only said after reading what every other gateway has written.
        for partition in announced.iter().map(|(id, _)| self.view.partition(*id)).collect::<BTreeSet<_>>() {
            self.view.catch_up_partition(partition).await?;
        }
        let mut seen = BTreeSet::new();
        let new: Vec<_> =
            announced.into_iter().filter(|(id, _)| !self.view.is_expected(*id) && seen.insert(*id)).collect();
        let most = self.config.announced_per_bureau;
        if self.view.usage(&bureau).0.announced + new.len() as u64 > most {
            let message = format!("the bureau may have {most} recordings announced: upload some first");
            return Err(Refusal::new(Reason::Quota, message));
        }
        let record = async |(id, fact): (RecordingId, Announced)| {
            let key = FactKey { recording: id, generation: 0, subject: Subject::Announced((self.nonce)()) };
            self.view.record(&key, &Fact::Announced(Box::new(fact))).await
        };
        stream::iter(new).map(record).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(proto::AnnounceRecordingsResponse { recording_ids })
    }

    fn validate_announcements(
        &self,
        bureau: BureauId,
        request: &proto::AnnounceRecordingsRequest,
    ) -> Result<Vec<(RecordingId, Announced)>, Refusal> {
        if !(1..=MOST).contains(&request.recordings.len()) {
            return Err(Refusal::field(Reason::MetadataInvalid, "recordings", "1 to 500 announcements"));
        }
        let announced_at = (self.clock)();
        let (mut announced, mut violations) = (Vec::new(), Vec::new());
        for (index, announcement) in request.recordings.iter().enumerate() {
            let key = announcement.idempotency_key.parse::<IdempotencyKey>();
            let metadata = Metadata::from_proto(&announcement.metadata.clone().unwrap_or_default());
            match (key, metadata) {
                (Ok(key), Ok(metadata)) => {
                    let id = RecordingId::derive(&bureau, &key);
                    announced.push((id, Announced { bureau: bureau.clone(), key, metadata, announced_at }));
                }
                (key, metadata) => {
                    let of_key = key.err().map(|e| Violation { field: e.field.into(), expected: e.expected.into() });
                    let wrong = of_key.into_iter().chain(metadata.err().unwrap_or_default());
                    violations
                        .extend(wrong.map(|v| Violation { field: format!("recordings[{index}].{}", v.field), ..v }));
                }
            }
        }
        if violations.is_empty() {
            return Ok(announced);
        }
        let fields: Vec<_> = violations.iter().map(|v| format!("{}: expected {}", v.field, v.expected)).collect();
        let message = format!("announcements have wrong or missing fields: {}", fields.join("; "));
        Err(Refusal { reason: Reason::MetadataInvalid, message, violations, recording: None })
    }
}
