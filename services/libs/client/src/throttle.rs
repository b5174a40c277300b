use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A limit on the bytes a second that all uploads of a process send together. 0 is none. It may be changed at any time.
#[derive(Debug, Default)]
pub struct Throttle {
    rate: AtomicU64,
    /// When the bytes granted so far will have been sent at the rate.
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Sets the limit, in bytes a second.
    pub fn set(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Waits until these bytes may go.
    pub async fn take(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let wait_until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(start + Duration::from_secs_f64(bytes as f64 / rate as f64));
            start
        };
        tokio::time::sleep_until(wait_until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_at_the_rate_whoever_sends_them() {
        let throttle = Throttle::default();
        throttle.set(1000);
        let start = Instant::now();
        for _ in 0..5 {
            throttle.take(1000).await;
        }
        assert_eq!(start.elapsed().as_secs(), 4);
        throttle.set(0);
        throttle.take(1 << 30).await;
        assert_eq!(start.elapsed().as_secs(), 4);
    }
}
