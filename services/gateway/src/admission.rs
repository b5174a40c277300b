//! Memory: how much of it segments, streams and watches may take, with a share for each bureau.

use std::time::Duration;

use caselock_domain::{id::BureauId, reason::Reason, shape::LARGE_SEGMENT};
use caselock_front::{Budget, Granted, Refusal};
use tokio::time::timeout;

use crate::config::WATCHES;

/// Permits for segments count pages, since a semaphore's are 32 bits.
const PAGE: u64 = 64 << 10;
/// The permits of a watch's memory count what one answer may take, and so many ids of recordings.
const ANSWER: u64 = 4 << 10;
const IDS: usize = 64;
/// Answers about one recording that its changes make.
const ANSWERS_EACH: usize = 8;
/// How long a caller may wait for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gateway has memory for.
pub struct Admission {
    segments: Budget,
    /// Each stream has a message in hand, however small or slow, before its segment is admitted.
    streams: Budget,
    watches: Budget,
}

impl Admission {
    /// For `bytes` of segments and so many `streams`, of which one bureau may have `share_percent`, but always one segment
    /// and one stream.
    pub fn new(bytes: u64, streams: u32, share_percent: u8) -> Self {
        let segment = (u64::from(LARGE_SEGMENT) / PAGE) as u32;
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX).max(segment);
        let answers = (WATCHES / ANSWER) as u32;
        Self {
            segments: Budget::new(pages, segment, share_percent),
            streams: Budget::new(streams, 1, share_percent),
            watches: Budget::new(answers, answers / 2, share_percent),
        }
    }

    /// Waits, not for long, for the memory of a segment.
    pub async fn segment(&self, bureau: &BureauId, length: u32) -> Result<Granted, Refusal> {
        let pages = u64::from(length).div_ceil(PAGE) as u32;
        let granted = timeout(PATIENCE, self.segments.take(bureau, pages)).await;
        granted.map_err(|_| {
            Refusal::new(Reason::MemoryBudget, "the gateway has no memory for the segment now: send it again later")
        })
    }

    /// Waits, not for long, for the memory of a stream.
    pub async fn stream(&self, bureau: &BureauId) -> Result<Granted, Refusal> {
        let granted = timeout(PATIENCE, self.streams.take(bureau, 1)).await;
        granted.map_err(|_| {
            Refusal::new(Reason::MemoryBudget, "the gateway has as many streams as it may: open one again later")
        })
    }

    /// Waits, not for long, for the memory of a watch: of so many ids, and of the answers that wait for a client who does not
    /// read them, `queue` at most. What is beyond half of the memory of all watches counts as half.
    pub async fn watch(&self, bureau: &BureauId, ids: usize, queue: usize) -> Result<Granted, Refusal> {
        let answers = ids.saturating_mul(ANSWERS_EACH).min(queue) + ids.div_ceil(IDS);
        let permits = answers.min((WATCHES / ANSWER / 2) as usize) as u32;
        let granted = timeout(PATIENCE, self.watches.take(bureau, permits)).await;
        granted.map_err(|_| {
            Refusal::new(Reason::MemoryBudget, "the gateway has as many watches as it may: open one again later")
        })
    }
}
