//! Memory: how much of it segments and streams may take, with a share for each bureau.

use std::time::Duration;

use caselock_domain::{id::BureauId, reason::Reason, shape::LARGE_SEGMENT};
use caselock_front::{Budget, Granted, Refusal};
use tokio::time::timeout;

/// Permits for segments count pages, since a semaphore's are 32 bits.
const PAGE: u64 = 64 << 10;
/// How long a caller may wait for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gateway has memory for.
pub struct Admission {
    segments: Budget,
    /// Each stream has a message in hand, however small or slow, before its segment is admitted.
    streams: Budget,
}

impl Admission {
    /// For `bytes` of segments and so many `streams`, of which one bureau may have `share_percent`, but always one segment
    /// and one stream.
    pub fn new(bytes: u64, streams: u32, share_percent: u8) -> Self {
        let segment = (u64::from(LARGE_SEGMENT) / PAGE) as u32;
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX).max(segment);
        Self { segments: Budget::new(pages, segment, share_percent), streams: Budget::new(streams, 1, share_percent) }
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
}
