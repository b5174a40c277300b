//! Waiting between attempts: full jitter, and a limit on how long nothing may succeed.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::UploadError;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// What the gateway asks to wait, and up to half of it more: clients that it refused together do not come back together.
pub fn spread(asked: Duration) -> Duration {
    let asked = asked.min(LONGEST);
    asked + asked.mul_f64(rand::rng().random::<f64>() / 2.0)
}

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

    /// How long to wait before the next attempt; the error where there is to be none. The wait is what the gateway asks for,
    /// and more, drawn evenly from zero to a limit that doubles (full jitter), so that clients do not come back together.
    pub fn next(&mut self, error: UploadError) -> Result<Duration, UploadError> {
        let after = match error {
            UploadError::Unavailable { after, .. } if self.since.elapsed() <= self.limit => after.min(LONGEST),
            error => return Err(error),
        };
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts += 1;
        Ok(after + ceiling.mul_f64(rand::rng().random::<f64>()))
    }
}
