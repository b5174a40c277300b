//! Memory: how much of it segments, streams and watches may take, with a share for each bureau.

use std::time::Duration;

use caselock_domain::{id::BureauId, reason::Reason, shape::LARGE_SEGMENT};
use caselock_front::{Budget, Granted, Refusal};
use futures::FutureExt;
use tokio::time::timeout;

use crate::config::WATCHES;

/// Permits for segments count pages, since a semaphore's are 32 bits.
const PAGE: u64 = 64 << 10;
/// Permits for watches count the bytes that one answer may take.
const ANSWER: u64 = 4 << 10;
/// Ids of recordings that take as much.
const IDS: usize = 64;
/// How long a caller may wait for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gateway has memory for.
pub struct Admission {
    segments: Budget,
    /// Each stream has a message in hand, however small or slow, before its segment is admitted.
    streams: Budget,
    watches: Budget,
    /// Of watches of everything: the ids they go through.
    snapshots: Budget,
}

impl Admission {
    /// For `bytes` of segments and so many `streams`, of which one bureau may have `share_percent`, but always one segment
    /// and one stream.
    pub fn new(bytes: u64, streams: u32, share_percent: u8) -> Self {
        let segment = (u64::from(LARGE_SEGMENT) / PAGE) as u32;
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX).max(segment);
        // A quarter of the watches' memory is for snapshots.
        let snapshots = (WATCHES / ANSWER / 4) as u32;
        Self {
            segments: Budget::new(pages, segment, share_percent),
            streams: Budget::new(streams, 1, share_percent),
            watches: Budget::new(3 * snapshots, 1, share_percent),
            snapshots: Budget::new(snapshots, 1, share_percent),
        }
    }

    /// Bytes of memory that segments have now.
    pub fn in_flight(&self) -> u64 {
        u64::from(self.segments.taken()) * PAGE
    }

    /// Streams that are open now.
    pub fn streams(&self) -> u32 {
        self.streams.taken()
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

    /// Memory of a watch, if there is any now: for so many answers that its client does not read, and for the ids it names.
    pub fn watch(&self, bureau: &BureauId, answers: usize, ids: usize) -> Result<Granted, Refusal> {
        let permits = answers + ids.div_ceil(IDS);
        let granted = self.watches.take(bureau, permits as u32).now_or_never();
        granted.ok_or_else(|| {
            Refusal::new(Reason::MemoryBudget, "the gateway has as many watches as it may: open one again later")
        })
    }

    /// Waits for the memory of so many ids, or of as many as a bureau may have at once.
    pub async fn snapshot(&self, bureau: &BureauId, ids: usize) -> Granted {
        let permits = u32::try_from(ids.div_ceil(IDS)).unwrap_or(u32::MAX);
        self.snapshots.take(bureau, permits.min(self.snapshots.share())).await
    }
}
