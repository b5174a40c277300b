use caselock_log::LogError;
use caselock_store::StoreError;

/// Why the registry could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database failed.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database's schema is not what this program knows.
    #[error("the database's schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rebuild is under way, and what it has not seen yet must not be judged.
    #[error("the registry is being rebuilt from the store: run caselock-registry rebuild --from-store to its end")]
    Rebuilding,
}

impl RegistryError {
    /// Whether trying the same again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(error) => !matches!(
                error,
                sqlx::Error::Configuration(_) | sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. }
            ),
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Schema(_) | Self::Rebuilding => false,
        }
    }
}
