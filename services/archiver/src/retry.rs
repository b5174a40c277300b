//! Errors of the work, and how it is repeated.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use caselock_domain::{receipt::ReceiptError, retention::RetentionError};
use caselock_log::LogError;
use caselock_store::StoreError;

use crate::metrics::ArchiverMetrics;

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The receipt could not be signed.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The lock's date could not be derived.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// What was read back is not what was set; it may be a moment later.
    #[error("{0}")]
    NotYet(String),
    /// A document in the store or a fact in the log does not fit what is known.
    #[error("{0}")]
    Inconsistent(String),
}

impl WorkError {
    /// Whether the same step may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            WorkError::Log(error) => error.is_retryable(),
            WorkError::Store(error) => error.is_retryable(),
            WorkError::NotYet(_) => true,
            WorkError::Receipt(_) | WorkError::Retention(_) | WorkError::Inconsistent(_) => false,
        }
    }
}

/// Repeats `work` until it succeeds or fails for good. It has no other end: while the store or the log is away, everything
/// waits. The caller's task is ended when the partition is taken away.
pub async fn until_done<T, F>(
    step: &'static str,
    metrics: &ArchiverMetrics,
    work: impl FnMut() -> F,
) -> Result<T, WorkError>
where
    F: Future<Output = Result<T, WorkError>>,
{
    let backoff = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times();
    work.retry(backoff)
        .when(WorkError::is_retryable)
        .notify(|error, delay| {
            metrics.retry(step);
            tracing::warn!(step, %error, ?delay, "trying again");
        })
        .await
}
