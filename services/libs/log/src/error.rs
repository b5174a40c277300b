use crate::Topic;

/// Why the log could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log can't be reached, or not now. Whether the record was appended is not known.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The log has no room left. The record may have been appended all the same.
    #[error("the log is full: {0}")]
    Full(String),
    /// The member no longer owns the partition. What it wanted to commit is another's now.
    #[error("{topic} partition {partition} belongs to another member of the group now")]
    Fenced {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
    },
    /// A topic is missing or has a setting that would break a promise.
    #[error("topic {topic}: {problem}")]
    Misconfigured {
        /// The topic.
        topic: Topic,
        /// The setting, what it is, and what it must be.
        problem: String,
    },
    /// No client can be made with the settings: a file, a property, or one that does not fit another.
    #[error("the log can't be used with these settings: {0}")]
    Settings(String),
    /// The record is larger than the log takes.
    #[error("the record is too large for the log: {0}")]
    TooLarge(String),
    /// What is stored can't be read.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

impl LogError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LogError::Unavailable(_) | LogError::Full(_))
    }
}
