//! The log in one file, for a single process: redb, a copy-on-write B-tree, with `fsync` before every answer.
//!
//! Compaction happens as records are appended: the older record of a key goes in the same transaction. Tombstones stay
//! until the log is opened again, since every reader of this process starts after that.

mod codec;
mod coordinator;
mod file;
mod tail;
mod writer;

use std::{
    collections::HashMap,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{Entry, Followed, Follower, Log, LogError, Member, Offset, Record, Topic};
use coordinator::Coordinator;
use file::LogFile;
use writer::Writer;

/// Partitions of every topic of an embedded log.
pub const PARTITIONS: u32 = 4;
/// How many bytes a read takes at once, at the least one record.
const READ_BATCH: usize = 8 << 20;
/// How many records may wait for a reader.
const QUEUE: usize = 16;

/// A log in one file. Only one process may have it open; the file is locked against a second.
pub struct EmbeddedLog {
    file: Arc<LogFile>,
    writer: Writer,
    groups: Mutex<HashMap<(String, Topic), Coordinator>>,
    /// Where the log's own tasks run: they outlive those of any one caller.
    runtime: Handle,
}

impl EmbeddedLog {
    /// Opens the log, or creates it, in `path`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(path: &Path) -> Result<Arc<Self>, LogError> {
        let file = Arc::new(LogFile::open(path)?);
        let writer = Writer::start(file.clone())?;
        Ok(Arc::new(Self { file, writer, groups: Mutex::default(), runtime: Handle::current() }))
    }
}

impl EmbeddedLog {
    /// Resolves when the file has failed in a way that only a new start mends. A full disk is none: that passes.
    pub async fn failed(&self) {
        self.file.failed().cancelled().await;
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self, _topic: Topic) -> u32 {
        PARTITIONS
    }

    fn name(&self, topic: Topic) -> String {
        topic.name().to_owned()
    }

    async fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError> {
        self.writer.append(topic, partition, record).await
    }

    async fn bounds(&self, topic: Topic, partition: u32) -> Result<Range<Offset>, LogError> {
        Ok(self.file.bounds(topic, partition))
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<Offset, LogError> {
        Ok(self.file.bounds(topic, partition).end)
    }

    async fn follow(&self, topic: Topic, from: Vec<(u32, Offset)>) -> Result<Follower, LogError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(follow(self.file.clone(), topic, from, sender));
        Ok(receiver)
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Member, LogError> {
        let coordinator = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            let coordinator = groups.entry((group.to_owned(), topic)).or_insert_with(|| {
                let _own = self.runtime.enter();
                Coordinator::start(group, topic, self.file.clone(), self.writer.clone())
            });
            coordinator.clone()
        };
        coordinator.join().await
    }

    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<Offset>, LogError> {
        let (file, group) = (self.file.clone(), group.to_owned());
        let asked = tokio::task::spawn_blocking(move || file.committed(&group, topic, partition)).await;
        asked.map_err(|e| LogError::Unavailable(e.to_string()))?
    }

    async fn delete_before(&self, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        self.writer.delete_before(topic, partition, offset).await
    }

    async fn check(&self, _topic: Topic) -> Result<(), LogError> {
        // Nothing to be set wrongly: the file has no retention, and every append is synchronous.
        Ok(())
    }
}

async fn follow(
    file: Arc<LogFile>,
    topic: Topic,
    mut positions: Vec<(u32, Offset)>,
    sender: mpsc::Sender<Result<Followed, LogError>>,
) {
    let mut changes = file.changes();
    let mut told = HashMap::new();
    loop {
        changes.mark_unchanged();
        for (partition, position) in &mut positions {
            loop {
                let entries = match read(&file, topic, *partition, *position).await {
                    Ok(entries) => entries,
                    Err(error) => return drop(sender.send(Err(error)).await),
                };
                let end = match entries {
                    Read::Entries(entries) => {
                        for entry in entries {
                            *position = entry.offset + 1;
                            if sender.send(Ok(Followed::Entry(entry))).await.is_err() {
                                return;
                            }
                        }
                        continue;
                    }
                    Read::End(end) => end,
                };
                *position = (*position).max(end);
                if told.insert(*partition, *position) != Some(*position) {
                    let end = Followed::End { partition: *partition, position: *position };
                    if sender.send(Ok(end)).await.is_err() {
                        return;
                    }
                }
                break;
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

enum Read {
    Entries(Vec<Entry>),
    End(Offset),
}

async fn read(file: &Arc<LogFile>, topic: Topic, partition: u32, from: Offset) -> Result<Read, LogError> {
    // The end is sampled first: what is appended meanwhile is read the next time round.
    let end = file.bounds(topic, partition).end;
    if from >= end {
        return Ok(Read::End(end));
    }
    if let Some(entries) = file.newest(topic, partition, from, READ_BATCH) {
        return Ok(Read::Entries(entries));
    }
    let reader = file.clone();
    let entries = tokio::task::spawn_blocking(move || reader.read(topic, partition, from, READ_BATCH))
        .await
        .map_err(|e| LogError::Unavailable(e.to_string()))??;
    Ok(if entries.is_empty() { Read::End(end) } else { Read::Entries(entries) })
}
