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
