//! Repeating what fails for reasons that pass.

use std::{fmt::Display, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use opentelemetry::{KeyValue, global};

use crate::health::Health;

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
    repeat(step, backoff().without_max_times(), is_retryable, work).await
}

/// As [`until_done`], for what a service needs at its start: until it is there, readiness says what is waited for, and why.
pub async fn until_there<T, E, F>(
    step: &'static str,
    health: &Health,
    is_retryable: fn(&E) -> bool,
    mut work: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let attempt = || {
        let work = work();
        async { work.await.inspect_err(|error| health.waits(step, error)) }
    };
    let done = until_done(step, is_retryable, attempt).await;
    health.goes_on();
    done
}

/// Repeats `work` for about a minute, so that what fails for one of many does not hold them all up; then the last error is
/// its result.
pub async fn for_a_while<T, E, F>(
    step: &'static str,
    is_retryable: fn(&E) -> bool,
    work: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    repeat(step, backoff().with_max_times(10), is_retryable, work).await
}

fn backoff() -> ExponentialBuilder {
    let backoff = ExponentialBuilder::default().with_jitter();
    backoff.with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(10))
}

async fn repeat<T, E, F>(
    step: &'static str,
    backoff: ExponentialBuilder,
    is_retryable: fn(&E) -> bool,
    work: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let retries = global::meter("caselock").u64_counter("caselock_retries").build();
    // There from the first try on, at 0.
    retries.add(0, &[KeyValue::new("step", step)]);
    work.retry(backoff)
        .when(is_retryable)
        .notify(|error, delay| {
            retries.add(1, &[KeyValue::new("step", step)]);
            tracing::warn!(step, %error, ?delay, "trying again");
        })
        .await
}
