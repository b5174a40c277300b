//! How far a partition's footage is done with, committed, and deleted from the log.

use std::{sync::Arc, time::Duration};

use caselock_log::{Commits, Entry, Head, Log, LogError, Offset, Topic};
use tokio::time::Instant;

/// How often footage that is done with is deleted, or after how many bytes: that is several requests to the broker, which has
/// room for so much.
const DELETE: Duration = Duration::from_secs(5);
const DELETE_BYTES: usize = 64 << 20;

/// What of a partition was begun, finished, committed and deleted.
pub struct Progress {
    head: Head,
    committed: Offset,
    /// One commit at a time.
    committing: bool,
    deleted: Offset,
    delete_at: Instant,
    /// Bytes that were finished since the last deletion was begun.
    bytes: usize,
}

/// A commit of everything before a position.
pub struct Commit {
    position: Offset,
    /// Whether the log is to forget what was committed.
    deletes: bool,
}

/// Who commits.
pub struct Committer {
    pub log: Arc<dyn Log>,
    pub commits: Arc<dyn Commits>,
    pub group: &'static str,
    pub epoch: u64,
    pub partition: u32,
}

impl Progress {
    /// From the position on that was committed before.
    pub fn new(position: Offset, now: Instant) -> Self {
        Self {
            head: Head::new(position),
            committed: position,
            committing: false,
            deleted: 0,
            delete_at: now + DELETE,
            bytes: 0,
        }
    }

    /// A record was taken.
    pub fn begin(&mut self, offset: Offset) {
        self.head.begin(offset);
    }

    /// A record need not come again.
    pub fn finish(&mut self, entry: &Entry) {
        self.bytes += entry.record.payload_len();
        self.head.finish(entry.offset);
    }

    /// Everything before this is finished.
    pub fn position(&self) -> Offset {
        self.head.position()
    }

    /// The commit that is due. Whoever takes it says how it [`ended`](Self::ended); until then there is no other.
    pub fn due(&mut self, now: Instant) -> Option<Commit> {
        let position = self.position();
        let deletes = position > self.deleted && (self.bytes >= DELETE_BYTES || now >= self.delete_at);
        if self.committing || (position <= self.committed && !deletes) {
            return None;
        }
        self.committing = true;
        if deletes {
            (self.delete_at, self.bytes) = (now + DELETE, 0);
        }
        Some(Commit { position, deletes })
    }

    /// A commit that was due has ended.
    pub fn ended(&mut self, result: Result<Commit, LogError>) {
        self.committing = false;
        match result {
            Ok(Commit { position, deletes }) => {
                self.committed = position;
                if deletes {
                    self.deleted = position;
                }
            }
            Err(error) => tracing::warn!(%error, "the head was not committed"),
        }
    }

    /// What is left to be committed and deleted when nothing will be taken any more.
    pub fn last(&self) -> Option<Commit> {
        let position = self.position();
        (position > self.deleted).then_some(Commit { position, deletes: true })
    }
}

impl Committer {
    /// Commits. Before it deletes it reads back what the coordinator has, and deletes up to that only.
    pub async fn commit(&self, commit: Commit) -> Result<Commit, LogError> {
        let Self { log, commits, group, epoch, partition } = self;
        commits.commit(*epoch, *partition, commit.position).await?;
        if commit.deletes
            && let Some(committed) = log.committed(group, Topic::Footage, *partition).await?
        {
            log.delete_before(Topic::Footage, *partition, committed).await?;
        }
        Ok(commit)
    }
}

#[cfg(test)]
mod tests {
    use caselock_log::Record;

    use super::*;

    /// From 7 on, with one record taken.
    fn begun() -> (Progress, Instant) {
        let now = Instant::now();
        let mut progress = Progress::new(7, now);
        progress.begin(7);
        (progress, now)
    }

    fn entry(offset: Offset, bytes: usize) -> Entry {
        Entry { partition: 0, offset, record: Record::new("key", vec![0; bytes]) }
    }

    fn due(progress: &mut Progress, now: Instant) -> Option<(Offset, bool)> {
        let commit = progress.due(now)?;
        let told = (commit.position, commit.deletes);
        progress.ended(Ok(commit));
        Some(told)
    }

    #[test]
    fn what_is_finished_is_committed_at_once_and_deleted_after_a_while() {
        let (mut progress, now) = begun();
        progress.begin(8);
        progress.finish(&entry(8, 10));
        assert_eq!(due(&mut progress, now), None, "record 7 is not finished");
        progress.finish(&entry(7, 10));
        assert_eq!(due(&mut progress, now), Some((9, false)));
        assert_eq!(due(&mut progress, now), None);
        assert_eq!(due(&mut progress, now + DELETE), Some((9, true)));
        assert_eq!(due(&mut progress, now + 3 * DELETE), None);
        assert!(progress.last().is_none());
    }

    #[test]
    fn many_bytes_are_deleted_sooner() {
        let (mut progress, now) = begun();
        progress.finish(&entry(7, DELETE_BYTES));
        assert_eq!(due(&mut progress, now), Some((8, true)));
    }

    #[test]
    fn what_failed_is_due_again_and_nothing_else_meanwhile() {
        let (mut progress, now) = begun();
        progress.finish(&entry(7, 1));
        assert!(progress.due(now).is_some());
        assert!(progress.due(now + DELETE).is_none(), "one is under way");
        progress.ended(Err(LogError::Unavailable("away".into())));
        assert_eq!(due(&mut progress, now + DELETE), Some((8, true)));
    }

    #[test]
    fn at_the_end_everything_finished_is_deleted() {
        let (mut progress, now) = begun();
        progress.finish(&entry(7, 1));
        assert_eq!(due(&mut progress, now), Some((8, false)));
        let last = progress.last().unwrap();
        assert_eq!((last.position, last.deletes), (8, true));
    }
}
