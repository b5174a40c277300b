//! One segment becomes one part: value recomputed, checksum verified by the store, then the fact of it.

use caselock_domain::{
    digest::segment_digest,
    fact::{Fact, FactKey, PartStored, Subject},
    footage::SegmentRef,
    id::RecordingId,
};
use caselock_log::{Entry, Offset, Topic, append_dead_letter};
use caselock_runtime::trace::TRACEPARENT;
use caselock_store::{Crc64Nvme, ErrorKind, StoreError};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::Worker;
use crate::retry::{WorkError, for_a_while, until_done};

/// How often a part that the store found damaged is sent again: our own bytes are known to be right.
const DAMAGED_ON_ITS_WAY: usize = 3;

/// A segment out of the log, with its share of the window.
pub struct Segment {
    pub segment: SegmentRef,
    pub entry: Entry,
    pub permit: OwnedSemaphorePermit,
    /// When it came.
    pub since: Instant,
}

impl Segment {
    /// The trace that it came with.
    pub fn traceparent(&self) -> Option<&[u8]> {
        self.entry.record.header_value(TRACEPARENT).map(|value| &value[..])
    }
}

/// What became of a segment.
#[derive(Debug)]
pub enum PartOutcome {
    /// It is a part; the fact of it is before this offset of `uploads`.
    Stored(Offset),
    /// It can't be one; the generation can't be finished, for this reason. What was in `uploads` up to the offset must be
    /// in the view before that is acted on.
    Impossible(&'static str, Offset),
}

impl Worker {
    /// Stores a segment as a part of the multipart upload, then records the fact. Tries for a while: then it is for the caller
    /// to say whether others must wait as well.
    pub async fn store_part(
        &self,
        segment: &Segment,
        key: &str,
        segment_size: u32,
        multipart_id: &str,
    ) -> Result<PartOutcome, WorkError> {
        let SegmentRef { recording, generation, index, value } = segment.segment;
        let bytes = segment.entry.record.payload.clone().unwrap_or_default();
        let digest = segment_digest(index, segment_size, &bytes).filter(|digest| digest.value == value);
        let Some(digest) = digest else {
            self.dead_letter(&segment.entry, "SEGMENT_CORRUPT").await?;
            return self.impossible("SEGMENT_CORRUPT", recording).await;
        };
        let crc = Crc64Nvme::of(&bytes);
        let length = bytes.len() as u32;
        let put = || async {
            let put = || self.store.put_part(key, multipart_id, index + 1, bytes.clone(), crc);
            Ok(again_if_damaged(put).await?)
        };
        let etag = match for_a_while("part", put).await {
            Ok(etag) => etag,
            Err(WorkError::Store(error)) if error.kind == ErrorKind::MultipartGone => {
                return self.impossible("MULTIPART_GONE", recording).await;
            }
            Err(WorkError::Store(error)) if !error.is_retryable() => {
                tracing::error!(%error, %recording, index, "a segment can't be stored");
                self.dead_letter(&segment.entry, "SEGMENT_REFUSED_BY_STORE").await?;
                return self.impossible("SEGMENT_REFUSED_BY_STORE", recording).await;
            }
            Err(error) => return Err(error),
        };
        let part =
            PartStored { length, etag, crc64nvme: crc.0, multipart_id: multipart_id.to_owned(), root: digest.root };
        let key = FactKey { recording, generation, subject: Subject::PartStored(index, digest.value) };
        let record = || async { self.record(&key, Some(Fact::PartStored(part.clone()))).await };
        let offset = until_done("part-fact", record).await?;
        self.metrics.part(length);
        Ok(PartOutcome::Stored(offset + 1))
    }

    async fn impossible(&self, reason: &'static str, id: RecordingId) -> Result<PartOutcome, WorkError> {
        let end = until_done("end-of-uploads", || self.end_of_facts(id)).await?;
        Ok(PartOutcome::Impossible(reason, end))
    }

    /// Notes what could not be done with a record of `footage`, without its bytes.
    pub async fn dead_letter(&self, entry: &Entry, reason: &'static str) -> Result<(), WorkError> {
        self.metrics.dead_letter(reason);
        tracing::error!(reason, partition = entry.partition, offset = entry.offset, "a dead letter");
        let append = || async { Ok(append_dead_letter(&*self.log, Topic::Footage, entry, reason, "").await?) };
        until_done("dead-letter", append).await
    }
}

/// Sends again what the store found damaged on its way.
pub(super) async fn again_if_damaged<F>(mut send: impl FnMut() -> F) -> Result<String, StoreError>
where
    F: Future<Output = Result<String, StoreError>>,
{
    let mut sent = send().await;
    for _ in 0..DAMAGED_ON_ITS_WAY {
        match &sent {
            Err(error) if error.kind == ErrorKind::ChecksumMismatch => sent = send().await,
            _ => break,
        }
    }
    sent
}
