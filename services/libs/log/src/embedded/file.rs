//! The file: tables and what is read from them.

use std::{
    collections::HashMap,
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    codec::{self, Assembler},
    tail::Tail,
};
use crate::{Cleanup, Entry, LogError, Offset, Record, Topic};

/// (topic, partition, offset, row) → row.
const RECORDS: TableDefinition<(u8, u32, u64, u32), &[u8]> = TableDefinition::new("records");
/// (topic, partition) → first offset, next offset.
const BOUNDS: TableDefinition<(u8, u32), (u64, u64)> = TableDefinition::new("bounds");
/// (topic, partition, key) → offset of the newest record, of compacted topics.
const KEYS: TableDefinition<(u8, u32, &[u8]), u64> = TableDefinition::new("keys");
/// (group, topic, partition) → committed offset.
const COMMITS: TableDefinition<(&str, u8, u32), u64> = TableDefinition::new("commits");

/// redb's page cache: enough for the tree and for facts that were just written.
const CACHE: usize = 32 << 20;
/// How many bytes of the newest footage are kept in memory.
const TAIL: usize = 64 << 20;
/// How long a full disk is left alone: opening again reads the whole file.
const REOPEN: Duration = Duration::from_secs(5);

/// First and next offset of each partition.
type Bounds = HashMap<(Topic, u32), Range<Offset>>;

enum State {
    Open(Arc<Database>),
    /// The disk was full, at this time.
    Full(Instant),
}

pub struct LogFile {
    path: PathBuf,
    database: RwLock<State>,
    /// What `BOUNDS` says, as of the last commit.
    bounds: RwLock<Bounds>,
    /// What was appended to `footage` last.
    tail: Mutex<Tail>,
    changed: watch::Sender<()>,
    failed: CancellationToken,
}

impl LogFile {
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let database = Database::builder().set_cache_size(CACHE).create(path).map_err(damaged)?;
        let transaction = database.begin_write().map_err(damaged)?;
        drop_tombstones(&transaction)?;
        transaction.open_table(BOUNDS).map_err(damaged)?;
        transaction.open_table(COMMITS).map_err(damaged)?;
        transaction.commit().map_err(damaged)?;
        let bounds = read_bounds(&database)?;
        let database = RwLock::new(State::Open(Arc::new(database)));
        Ok(Self {
            path: path.to_owned(),
            database,
            bounds: RwLock::new(bounds),
            tail: Mutex::new(Tail::of(TAIL)),
            changed: watch::channel(()).0,
            failed: CancellationToken::new(),
        })
    }

    /// The open database. After the disk was full the file is opened again, and read for what of the last commit reached it.
    fn database(&self) -> Result<Arc<Database>, LogError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => return Ok(database.clone()),
            State::Full(since) if since.elapsed() < REOPEN => return Err(LogError::Full("not tried again yet".into())),
            State::Full(_) => {}
        }
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(database) = &*state {
            return Ok(database.clone());
        }
        *state = State::Full(Instant::now());
        let (database, bounds) = reopen(&self.path)?;
        {
            let mut known = self.bounds.write().unwrap_or_else(PoisonError::into_inner);
            let is_lost = |place: &(Topic, u32), end| bounds.get(place).is_none_or(|now| now.end < end);
            if known.iter().any(|(place, range)| is_lost(place, range.end)) {
                return Err(LogError::Damaged(format!("{} has lost what it had", self.path.display())));
            }
            *known = bounds;
        }
        // Only what the disk holds counts.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let database = Arc::new(database);
        *state = State::Open(database.clone());
        tracing::warn!(path = %self.path.display(), "the log's file was opened again");
        // A commit that was answered with an error may have reached the file all the same.
        self.changed.send_replace(());
        Ok(database)
    }

    /// Does something with the open database, and closes it where the disk was found full: redb refuses everything after an
    /// error. After any other error it stays so until the process starts anew, since what the disk holds is not certain.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, LogError>) -> Result<T, LogError> {
        let database = self.database()?;
        let result = work(&database);
        if matches!(result, Err(LogError::Full(_))) {
            let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if matches!(&*state, State::Open(open) if Arc::ptr_eq(open, &database)) {
                *state = State::Full(Instant::now());
            }
        } else if let Err(LogError::Unavailable(why)) = &result
            && matches!(&*self.database.read().unwrap_or_else(PoisonError::into_inner), State::Open(_))
        {
            tracing::error!(why, "the log's file failed: the process must start anew");
            self.failed.cancel();
        }
        result
    }

    /// Cancelled when the file can't be used any more until the process starts anew.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Told of every commit.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn bounds(&self, topic: Topic, partition: u32) -> Range<Offset> {
        let bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner);
        bounds.get(&(topic, partition)).cloned().unwrap_or(0..0)
    }

    pub fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<Offset>, LogError> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(damaged)?;
            let table = transaction.open_table(COMMITS).map_err(damaged)?;
            let committed = table.get((group, topic as u8, partition)).map_err(damaged)?;
            Ok(committed.map(|offset| offset.value()))
        })
    }

    /// As [`LogFile::read`], where all of it is in memory, as it was appended a moment ago.
    pub fn newest(&self, topic: Topic, partition: u32, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        if topic != Topic::Footage {
            return None;
        }
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).read(partition, from, bytes)
    }

    /// Records from `from` on, up to about `bytes`, but at least one if there is any.
    pub fn read(&self, topic: Topic, partition: u32, from: Offset, bytes: usize) -> Result<Vec<Entry>, LogError> {
        self.with(|database| read(database, topic, partition, from, bytes))
    }

    /// Runs `work` in one transaction and makes it durable.
    pub fn write<T>(&self, work: impl FnOnce(&mut Batch<'_>) -> Result<T, LogError>) -> Result<T, LogError> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(damaged)?;
            let mut batch = Batch {
                file: self,
                transaction: &transaction,
                bounds: HashMap::new(),
                footage: Vec::new(),
                done_with: Vec::new(),
            };
            let result = work(&mut batch)?;
            let Batch { bounds, footage, done_with, .. } = batch;
            {
                let mut table = transaction.open_table(BOUNDS).map_err(damaged)?;
                for ((topic, partition), range) in &bounds {
                    table.insert((*topic as u8, *partition), (range.start, range.end)).map_err(damaged)?;
                }
            }
            // redb's default durability: synced to the device before `commit` returns.
            transaction.commit().map_err(damaged)?;
            {
                let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
                footage.into_iter().for_each(|entry| tail.push(entry));
                done_with.into_iter().for_each(|(partition, offset)| tail.drop_before(partition, offset));
            }
            self.bounds.write().unwrap_or_else(PoisonError::into_inner).extend(bounds);
            self.changed.send_replace(());
            Ok(result)
        })
    }
}

/// Opens the file that is there. What the kernel kept in memory of a write that failed is dropped first, so that only what
/// the disk holds counts.
fn reopen(path: &Path) -> Result<(Database, Bounds), LogError> {
    let drop_cached = || -> std::io::Result<()> {
        let file = File::open(path)?;
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    };
    drop_cached().map_err(|e| damaged(redb::Error::Io(e)))?;
    let database = Database::builder().set_cache_size(CACHE).open(path).map_err(damaged)?;
    let bounds = read_bounds(&database)?;
    Ok((database, bounds))
}

fn read(database: &Database, topic: Topic, partition: u32, from: Offset, bytes: usize) -> Result<Vec<Entry>, LogError> {
    let transaction = database.begin_read().map_err(damaged)?;
    let table = transaction.open_table(RECORDS).map_err(damaged)?;
    let first = (topic as u8, partition, from, 0);
    let last = (topic as u8, partition, u64::MAX, u32::MAX);
    let mut entries = Vec::new();
    let mut size = 0;
    let mut assembling: Option<Assembler> = None;
    for row in table.range(first..=last).map_err(damaged)? {
        let (key, value) = row.map_err(damaged)?;
        let (_, _, offset, index) = key.value();
        let assembler = match assembling.take() {
            Some(mut assembler) => {
                assembler.add(value.value());
                assembler
            }
            None if index == 0 => Assembler::begin(value.value())?,
            None => return Err(LogError::Damaged(format!("{topic} {partition}@{offset} has no head"))),
        };
        if !assembler.is_complete() {
            assembling = Some(assembler);
            continue;
        }
        size += assembler.len();
        entries.push(Entry { partition, offset, record: assembler.finish() });
        if size >= bytes {
            break;
        }
    }
    Ok(entries)
}

/// One transaction.
pub struct Batch<'t> {
    file: &'t LogFile,
    transaction: &'t WriteTransaction,
    bounds: Bounds,
    /// What is appended to `footage`.
    footage: Vec<Entry>,
    /// Up to where partitions of `footage` are deleted, or were read and committed.
    done_with: Vec<(u32, Offset)>,
}

impl Batch<'_> {
    fn bounds(&mut self, topic: Topic, partition: u32) -> &mut Range<Offset> {
        let file = self.file;
        self.bounds.entry((topic, partition)).or_insert_with(|| file.bounds(topic, partition))
    }

    pub fn append(&mut self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError> {
        let bounds = self.bounds(topic, partition);
        let offset = bounds.end;
        bounds.end += 1;
        let mut records = self.transaction.open_table(RECORDS).map_err(damaged)?;
        if topic.cleanup() == Cleanup::Compact {
            let mut keys = self.transaction.open_table(KEYS).map_err(damaged)?;
            let key = (topic as u8, partition, &record.key[..]);
            let older = keys.insert(key, offset).map_err(damaged)?.map(|older| older.value());
            if let Some(older) = older {
                remove(&mut records, topic, partition, older..older + 1)?;
            }
        }
        if topic == Topic::Footage {
            self.footage.push(Entry { partition, offset, record: record.clone() });
        }
        for (index, row) in codec::rows(record).enumerate() {
            let key = (topic as u8, partition, offset, index as u32);
            records.insert(key, &row[..]).map_err(damaged)?;
        }
        Ok(offset)
    }

    pub fn delete_before(&mut self, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        let bounds = self.bounds(topic, partition);
        let gone = bounds.start..offset.min(bounds.end);
        if gone.is_empty() {
            return Ok(());
        }
        bounds.start = gone.end;
        if topic == Topic::Footage {
            self.done_with.push((partition, gone.end));
        }
        let mut records = self.transaction.open_table(RECORDS).map_err(damaged)?;
        remove(&mut records, topic, partition, gone)
    }

    pub fn commit(&mut self, group: &str, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        let mut commits = self.transaction.open_table(COMMITS).map_err(damaged)?;
        commits.insert((group, topic as u8, partition), offset).map_err(damaged)?;
        if topic == Topic::Footage {
            self.done_with.push((partition, offset));
        }
        Ok(())
    }
}

type Records<'t> = redb::Table<'t, (u8, u32, u64, u32), &'static [u8]>;

fn remove(records: &mut Records<'_>, topic: Topic, partition: u32, offsets: Range<Offset>) -> Result<(), LogError> {
    let range = (topic as u8, partition, offsets.start, 0)..(topic as u8, partition, offsets.end, 0);
    records.retain_in(range, |_, _| false).map_err(damaged)
}

fn drop_tombstones(transaction: &WriteTransaction) -> Result<(), LogError> {
    let mut records = transaction.open_table(RECORDS).map_err(damaged)?;
    let mut keys = transaction.open_table(KEYS).map_err(damaged)?;
    let mut tombstones = Vec::new();
    for row in keys.iter().map_err(damaged)? {
        let (key, offset) = row.map_err(damaged)?;
        let (topic, partition, key) = key.value();
        let place = (topic, partition, offset.value(), 0);
        let Some(head) = records.get(place).map_err(damaged)? else { continue };
        let assembler = Assembler::begin(head.value())?;
        if assembler.is_complete() && assembler.finish().payload.is_none() {
            tombstones.push((place, key.to_vec()));
        }
    }
    for (place, key) in tombstones {
        records.remove(place).map_err(damaged)?;
        keys.remove((place.0, place.1, &key[..])).map_err(damaged)?;
    }
    Ok(())
}

fn read_bounds(database: &Database) -> Result<Bounds, LogError> {
    let transaction = database.begin_read().map_err(damaged)?;
    let table = transaction.open_table(BOUNDS).map_err(damaged)?;
    let mut bounds = HashMap::new();
    for row in table.iter().map_err(damaged)? {
        let (key, value) = row.map_err(damaged)?;
        let ((number, partition), (start, end)) = (key.value(), value.value());
        let topic = Topic::ALL.into_iter().find(|t| *t as u8 == number);
        let topic = topic.ok_or_else(|| LogError::Damaged(format!("unknown topic {number}")))?;
        bounds.insert((topic, partition), start..end);
    }
    Ok(bounds)
}

pub(super) fn damaged(error: impl Into<redb::Error>) -> LogError {
    match error.into() {
        redb::Error::Io(error) if is_full(&error) => LogError::Full(error.to_string()),
        redb::Error::Io(error) => LogError::Unavailable(error.to_string()),
        redb::Error::PreviousIo => LogError::Unavailable("the file failed before".into()),
        redb::Error::DatabaseAlreadyOpen => LogError::Unavailable("the log's file is open in another process".into()),
        error => LogError::Damaged(error.to_string()),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | FileTooLarge | QuotaExceeded)
}
