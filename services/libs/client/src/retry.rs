//! Waiting between attempts: full jitter, and a limit on how long nothing may succeed.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::UploadError;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// How long to go on without any success.
pub struct Patience {
    limit: Duration,
    since: Instant,
    attempts: u32,
}

impl Patience {
    /// Gives up after `limit` without success.
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), attempts: 0 }
    }

    /// Something succeeded: the time counts anew.
    pub fn renew(&mut self) {
        self.since = Instant::now();
        self.attempts = 0;
    }

    /// How long to wait before the next attempt; the error where there is to be none. The wait is drawn evenly from zero to
    /// a limit that doubles (full jitter), so that clients do not come back together.
    pub fn next(&mut self, error: UploadError) -> Result<Duration, UploadError> {
        if !error.is_retryable() || self.since.elapsed() > self.limit {
            return Err(error);
        }
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts += 1;
        Ok(ceiling.mul_f64(rand::rng().random::<f64>()))
    }
}
