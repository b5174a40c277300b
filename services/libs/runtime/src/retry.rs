//! Repeating what fails for reasons that pass.

use std::{fmt::Display, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use opentelemetry::{KeyValue, global};

/// Repeats `work` until it succeeds or fails for good. It has no other end: while the store or the log is away, everything
/// waits. The caller's task is ended when the work is taken away.
pub async fn until_done<T, E, F>(
    step: &'static str,
    is_retryable: fn(&E) -> bool,
    work: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let backoff = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times();
    let retries = global::meter("caselock").u64_counter("caselock_retries").build();
    work.retry(backoff)
        .when(is_retryable)
        .notify(|error, delay| {
            retries.add(1, &[KeyValue::new("step", step)]);
            tracing::warn!(step, %error, ?delay, "trying again");
        })
        .await
}
