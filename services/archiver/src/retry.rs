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

    /// Whether it may concern this one recording only: not where the log is away, or what was written is not visible yet.
    pub fn may_be_its_own(&self) -> bool {
        !matches!(self, WorkError::Log(_) | WorkError::NotYet(_))
    }
}

/// Repeats `work` for about a minute, unless it fails for good before.
pub async fn for_a_while<T, F>(step: &'static str, work: impl FnMut() -> F) -> Result<T, WorkError>
where
    F: Future<Output = Result<T, WorkError>>,
{
    caselock_runtime::retry::for_a_while(step, WorkError::is_retryable, work).await
}

/// Repeats `work` until it succeeds or fails for good.
pub async fn until_done<T, F>(step: &'static str, work: impl FnMut() -> F) -> Result<T, WorkError>
where
    F: Future<Output = Result<T, WorkError>>,
{
    caselock_runtime::retry::until_done(step, WorkError::is_retryable, work).await
}
