use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::{Entry, LogError, Offset};

/// A member of a group. Read `control` before `entries`: a partition's assignment comes before its records, and records
/// of an assignment that has been revoked carry an older epoch and must be dropped.
pub struct Member {
    /// Assignments and revocations.
    pub control: mpsc::Receiver<Control>,
    /// Records of the assigned partitions. Not reading them stops the fetching, nothing else.
    pub entries: mpsc::Receiver<Delivered>,
    /// Commits.
    pub commits: Arc<dyn Commits>,
}

/// A record of an assignment.
#[derive(Debug)]
pub struct Delivered {
    /// The assignment it belongs to.
    pub epoch: u64,
    /// The record.
    pub entry: Entry,
}

/// What happens to a member.
#[derive(Debug)]
pub enum Control {
    /// From now on these partitions are this member's, and no others.
    Assigned(Assignment),
    /// The partitions are being taken away. Stop working on them, commit what is finished, and answer; after the session
    /// timeout they go without an answer.
    Revoked {
        /// Whether they are gone already, so that commits fail.
        lost: bool,
        /// To be sent when everything is committed.
        done: oneshot::Sender<()>,
    },
    /// The member can't go on. It must be dropped, and a new one joined.
    Failed(LogError),
}

/// Partitions and where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Grows with every assignment of the member.
    pub epoch: u64,
    /// Each partition with the first offset that will be delivered: the committed one, or the start of the log.
    pub partitions: Vec<(u32, Offset)>,
}

/// Commits of one member.
#[async_trait]
pub trait Commits: Send + Sync {
    /// Commits `offset`, the next to be worked on. Durable when it returns. [`LogError::Fenced`] if the partition is not
    /// the member's any more.
    async fn commit(&self, epoch: u64, partition: u32, offset: Offset) -> Result<(), LogError>;
}
