//! What there is only so much of, with a share for each bureau.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use caselock_domain::id::BureauId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits, of which each bureau may have a share.
pub struct Budget {
    whole: Arc<Semaphore>,
    size: u32,
    share: usize,
    bureaus: Mutex<HashMap<BureauId, Arc<Semaphore>>>,
}

/// What was granted; given back when dropped.
pub struct Granted {
    _whole: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// So many permits, of which one bureau may have `share_percent`, but always `least_share`.
    pub fn new(whole: u32, least_share: u32, share_percent: u8) -> Self {
        let share = u64::from(whole) * u64::from(share_percent.min(100)) / 100;
        let share = (share as usize).max(least_share as usize);
        Self { whole: Arc::new(Semaphore::new(whole as usize)), size: whole, share, bureaus: Mutex::default() }
    }

    /// The permits one bureau may have.
    pub fn share(&self) -> u32 {
        self.share as u32
    }

    /// The permits that are taken now.
    pub fn taken(&self) -> u32 {
        (self.size as usize).saturating_sub(self.whole.available_permits()) as u32
    }

    /// Waits for permits of the bureau's share, which must not be more than that.
    pub async fn take(&self, bureau: &BureauId, permits: u32) -> Granted {
        // Semaphores are never closed: an error can't be.
        let share = self.share_of(bureau).acquire_many_owned(permits).await.ok();
        loop {
            if let Ok(whole) = self.whole.clone().acquire_many_owned(permits).await {
                return Granted { _whole: whole, _share: share };
            }
        }
    }

    /// Waits for a permit whose bureau is not known yet.
    pub(crate) async fn take_for_anyone(&self) -> Granted {
        loop {
            if let Ok(whole) = self.whole.clone().acquire_owned().await {
                return Granted { _whole: whole, _share: None };
            }
        }
    }

    /// Counts what was granted to anyone as this bureau's; `None` where its share is used up.
    pub(crate) fn count(&self, granted: Granted, bureau: &BureauId) -> Option<Granted> {
        let share = self.share_of(bureau).try_acquire_owned().ok()?;
        Some(Granted { _share: Some(share), ..granted })
    }

    fn share_of(&self, bureau: &BureauId) -> Arc<Semaphore> {
        let mut bureaus = self.bureaus.lock().unwrap_or_else(PoisonError::into_inner);
        // Bureaus that have nothing are forgotten, so that the map stays small.
        if bureaus.len() > 1024 {
            bureaus.retain(|_, share| Arc::strong_count(share) > 1);
        }
        bureaus.entry(bureau.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.share))).clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_bureau_has_its_share_and_not_more() {
        let budget = Budget::new(10, 1, 60);
        let (one, other): (BureauId, BureauId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let six = budget.take(&one, 6).await;
        assert!(budget.take(&one, 1).now_or_never().is_none());
        let three = budget.take(&other, 3).now_or_never().unwrap();
        let last = budget.take_for_anyone().now_or_never().unwrap();
        assert!(budget.take_for_anyone().now_or_never().is_none());
        assert!(budget.count(last, &one).is_none());
        let last = budget.take_for_anyone().now_or_never().unwrap();
        let last = budget.count(last, &other).unwrap();
        assert_eq!(budget.taken(), 10);
        drop((six, three, last));
        assert_eq!(budget.taken(), 0);
        assert!(budget.take(&other, 6).now_or_never().is_some());
    }
}
