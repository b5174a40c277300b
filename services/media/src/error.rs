use caselock_log::LogError;
use caselock_store::StoreError;

/// Why a job could not be done now, or not at all.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Scratch space or the worker's process could not be had.
    #[error("this machine: {0}")]
    Machine(#[from] std::io::Error),
    /// The job, or what it refers to, is not what it must be.
    #[error("{reason}: {detail}")]
    Impossible {
        /// The stable reason.
        reason: &'static str,
        /// What was found.
        detail: String,
    },
}

impl JobError {
    pub fn impossible(reason: &'static str, detail: impl ToString) -> Self {
        Self::Impossible { reason, detail: detail.to_string() }
    }

    /// Whether the same job may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            JobError::Log(error) => error.is_retryable(),
            JobError::Store(error) => error.is_retryable(),
            JobError::Machine(_) => true,
            JobError::Impossible { .. } => false,
        }
    }
}
