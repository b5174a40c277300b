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

#[cfg(test)]
mod tests {
    use super::*;

    fn away(after: Duration) -> UploadError {
        UploadError::Unavailable { reason: "Unavailable".into(), message: "away".into(), after }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_drawn_from_zero_to_a_limit_that_doubles() {
        let mut widest = Vec::new();
        for attempt in 0..12u32 {
            let mut waits = Vec::new();
            for _ in 0..300 {
                let mut patience = Patience::new(Duration::from_secs(600));
                let mut wait = Duration::ZERO;
                for _ in 0..=attempt {
                    wait = patience.next(away(Duration::ZERO)).unwrap();
                }
                waits.push(wait);
            }
            let limit = FIRST.saturating_mul(1 << attempt).min(LONGEST);
            assert!(waits.iter().all(|wait| *wait <= limit), "attempt {attempt}");
            // Of 300 some are near either end.
            assert!(waits.iter().min().unwrap() < &(limit / 10) && waits.iter().max().unwrap() > &(limit * 9 / 10));
            widest.push(limit);
        }
        assert_eq!(widest.last(), Some(&LONGEST));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_gateway_asks_is_the_least_and_time_without_success_ends_it() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let wait = patience.next(away(Duration::from_secs(5))).unwrap();
        assert!((Duration::from_secs(5)..=Duration::from_secs(5) + FIRST).contains(&wait), "{wait:?}");
        tokio::time::advance(Duration::from_secs(59)).await;
        patience.next(away(Duration::ZERO)).unwrap();
        patience.renew();
        tokio::time::advance(Duration::from_secs(60)).await;
        patience.next(away(Duration::ZERO)).unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(patience.next(away(Duration::ZERO)), Err(UploadError::Unavailable { .. })));
        // What does not pass is not waited for.
        let mut patience = Patience::new(Duration::from_secs(60));
        assert!(matches!(patience.next(UploadError::Changed), Err(UploadError::Changed)));
    }
}
