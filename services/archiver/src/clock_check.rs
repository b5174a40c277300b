//! Whether our clock and the store's agree, asked anew before something is locked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caselock_domain::time::Clock;
use caselock_runtime::health::Health;
use caselock_store::{
    Store,
    probe::{ProbeError, clocks_agree},
};
use tokio::time::Instant;

use crate::retry::WorkError;

/// For how long an answer counts.
const COUNTS: Duration = Duration::from_secs(60);
const CONDITION: &str = "store-clock";

/// Remembers when the clocks last agreed.
pub struct ClockCheck {
    agreed_at: Mutex<Option<Instant>>,
    health: Health,
}

impl ClockCheck {
    pub fn new(health: Health) -> Self {
        Self { agreed_at: Mutex::new(None), health }
    }

    /// Asks from time to time, whether there is work or not, for as long as it is polled.
    pub async fn watch(self: Arc<Self>, store: Arc<dyn Store>, clock: Clock) {
        loop {
            if let Err(error) = self.pass(&*store, &clock).await {
                tracing::warn!(%error, "the store's clock");
            }
            tokio::time::sleep(COUNTS / 2).await;
        }
    }

    /// Ends well where the clocks agree; else the archiver is not ready, and nothing is locked.
    pub async fn pass(&self, store: &dyn Store, clock: &Clock) -> Result<(), WorkError> {
        let agreed_at = *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if agreed_at.is_some_and(|at| at.elapsed() < COUNTS) {
            return Ok(());
        }
        match clocks_agree(store, clock()).await {
            Ok(()) => {
                self.health.up(CONDITION);
                *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            Err(ProbeError::Store(error)) => Err(error.into()),
            Err(error) => {
                self.health.down(CONDITION, &error);
                Err(WorkError::NotYet(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use caselock_domain::time::Timestamp;
    use caselock_store::fs::FsStore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_wrong_stops_the_locking_until_it_is_right() {
        let dir = tempfile::TempDir::new().unwrap();
        let right: Clock = Arc::new(Timestamp::now);
        let wrong: Clock = Arc::new(|| Timestamp::now() + Duration::from_secs(61));
        let store = FsStore::open(dir.path().to_owned(), right.clone()).unwrap();
        let health = Health::default();
        health.started();
        let check = ClockCheck::new(health.clone());
        check.pass(&*store, &right).await.unwrap();
        // The answer counts for a minute.
        check.pass(&*store, &wrong).await.unwrap();
        tokio::time::advance(COUNTS).await;
        let error = check.pass(&*store, &wrong).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("clock"), "{error}");
        assert_eq!(health.problems().len(), 1);
        check.pass(&*store, &right).await.unwrap();
        assert!(health.problems().is_empty());
    }
}
