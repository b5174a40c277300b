//! Memory for segments: a byte budget over all streams, with a share for each bureau.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caselock_domain::{id::BureauId, reason::Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use caselock_front::Refusal;

/// Permits count pages, since a semaphore's are 32 bits.
const PAGE: u64 = 64 << 10;
/// How long a segment may wait for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// The byte budget.
pub struct Admission {
    budget: Arc<Semaphore>,
    share: usize,
    bureaus: Mutex<HashMap<BureauId, Arc<Semaphore>>>,
}

/// Memory that was granted; given back when dropped.
pub struct Admitted {
    _whole: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

impl Admission {
    /// A budget of `bytes`, of which one bureau may have `share_percent`, but always one segment.
    pub fn new(bytes: u64, share_percent: u8) -> Self {
        let most = u64::from(caselock_domain::shape::LARGE_SEGMENT) / PAGE;
        let pages = (bytes / PAGE).max(most);
        let share = (pages * u64::from(share_percent.min(100)) / 100).max(most);
        Self { budget: Arc::new(Semaphore::new(pages as usize)), share: share as usize, bureaus: Mutex::default() }
    }

    /// Waits, not for long, for the memory of a segment.
    pub async fn admit(&self, bureau: &BureauId, length: u32) -> Result<Admitted, Refusal> {
        let pages = u64::from(length).div_ceil(PAGE) as u32;
        let share = {
            let mut bureaus = self.bureaus.lock().unwrap_or_else(PoisonError::into_inner);
            // Bureaus that have nothing in memory are forgotten, so that the map stays small.
            if bureaus.len() > 1024 {
                bureaus.retain(|_, s| s.available_permits() < self.share);
            }
            bureaus.entry(bureau.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.share))).clone()
        };
        let granted = async {
            let share = share.acquire_many_owned(pages).await.ok()?;
            let whole = self.budget.clone().acquire_many_owned(pages).await.ok()?;
            Some(Admitted { _whole: whole, _share: share })
        };
        let granted = tokio::time::timeout(PATIENCE, granted).await.ok().flatten();
        granted.ok_or_else(|| {
            Refusal::new(Reason::MemoryBudget, "the gateway has no memory for the segment now: send it again later")
        })
    }
}
