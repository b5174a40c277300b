use caselock_domain::{calendar::CalendarError, case::CaseError, id::RecordingId, retention::RetentionError};
use caselock_log::{LogError, Offset, Topic};
use caselock_runtime::secret::SecretError;
use caselock_store::{StoreError, probe::ProbeError};

/// Why the registry could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database failed.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The file that has the database's address can't be read.
    #[error("registry.database: {0}")]
    Secret(#[from] SecretError),
    /// The database's schema is not what this program knows.
    #[error("the database's schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A topic ends before the place up to which it was read: it was made anew.
    #[error(
        "{topic} {partition} was read up to {known} and ends at {end}: it is not the log that this database was made from. It needs a new database, or the topics another name"
    )]
    AnotherLog {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// Up to here it was read.
        known: Offset,
        /// Here it ends.
        end: Offset,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry does not follow from what the case's record says.
    #[error("the case: {0}")]
    Case(#[from] CaseError),
    /// An entry can't be read or written.
    #[error("an entry of a case: {0}")]
    Entry(String),
    /// What stands in a row can't be.
    #[error("a row of the database: {0}")]
    Row(String),
    /// The connection that said so is gone, and another registry may work on the database by now.
    #[error("this registry no longer knows that it is the only one on its database")]
    LeadLost,
    /// Our clock is not the store's, or that can't be asked.
    #[error("the clock: {0}")]
    Clock(#[from] ProbeError),
    /// A hold may still be taken off by a request that was sent earlier.
    #[error("an earlier change of this lock may still be on its way: ask again in some minutes")]
    Unsettled,
    /// The recording is being removed, or was.
    #[error("{0} is removed: its retention had run out")]
    Disposed(RecordingId),
    /// The calendar can't be used.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// A date outside the calendar.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Likewise.
    #[error(transparent)]
    Date(#[from] jiff::Error),
    /// A rebuild is under way, and what it has not seen yet must not be judged.
    #[error("the registry is being rebuilt from the store: run caselock-registry rebuild --from-store to its end")]
    Rebuilding,
}

impl RegistryError {
    /// Whether the database is away, is only starting or ending, or has no connection left: it may answer later. (A name or password that is wrong does not
    /// become right.)
    pub fn is_away(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(sqlx::Error::Io(error)) => error.kind() != std::io::ErrorKind::NotFound,
            // https://www.postgresql.org/docs/current/errcodes-appendix.html: connection exceptions, too many connections, operator intervention.
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| ["08", "57P"].iter().any(|class| code.starts_with(class)) || code == "53300"),
            _ => false,
        }
    }

    /// Whether trying the same again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(error) => !matches!(
                error,
                sqlx::Error::Configuration(_) | sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. }
            ),
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Unsettled | Self::Clock(_) | Self::Secret(_) => true,
            Self::Schema(_)
            | Self::LeadLost
            | Self::AnotherLog { .. }
            | Self::Case(_)
            | Self::Entry(_)
            | Self::Row(_)
            | Self::Retention(_)
            | Self::Date(_)
            | Self::Disposed(_)
            | Self::Calendar(_)
            | Self::Rebuilding => false,
        }
    }
}
