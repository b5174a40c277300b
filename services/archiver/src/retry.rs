//! Errors of the work, and how it is repeated.

use caselock_domain::{receipt::ReceiptError, retention::RetentionError};
use caselock_log::LogError;
use caselock_store::StoreError;

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
    /// What was written can't be read back yet.
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

/// Repeats `work` until it succeeds or fails for good.
pub async fn until_done<T, F>(step: &'static str, work: impl FnMut() -> F) -> Result<T, WorkError>
where
    F: Future<Output = Result<T, WorkError>>,
{
    caselock_runtime::retry::until_done(step, WorkError::is_retryable, work).await
}
