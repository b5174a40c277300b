//! The gateway's view of `uploads`: what every recording's facts are, as far as this process has read.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use caselock_domain::{
    fact::{self, Fact, FactKey},
    id::{BureauId, RecordingId},
    partition,
    reason::Reason,
    state::{GenerationFacts, Phase, RecordingFacts},
    time::Timestamp,
};
use caselock_log::{Entry, Followed, Log, LogError, Offset, Topic, append_fact};
use caselock_runtime::health::Health;
use futures::stream::{SelectAll, select_all};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use caselock_front::Refusal;

/// How long a request may wait for the view to catch up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many changes of one partition a watcher may be behind before it gets a new snapshot.
const CHANGES: usize = 1024;
/// How long to wait before following again after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// What a bureau has open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Uploads that are neither sealed, stored nor abandoned.
    pub open_uploads: u64,
    /// Recordings that were announced and not opened.
    pub announced: u64,
    /// Bytes in the log that are not known to be in the store.
    pub backlog: u64,
}

/// The view. Shared by all requests.
pub struct View {
    log: Arc<dyn Log>,
    known: RwLock<Known>,
    partitions: Vec<Partition>,
    /// Whether all of them were read to their ends once.
    is_read: AtomicBool,
}

/// Who waits for one recording is not woken by the facts of all others, only by its partition's.
struct Partition {
    position: watch::Sender<Offset>,
    changes: broadcast::Sender<RecordingId>,
}

impl Partition {
    fn advance(&self, position: Offset) {
        self.position.send_modify(|at| *at = position.max(*at));
    }
}

#[derive(Default)]
struct Known {
    recordings: HashMap<RecordingId, RecordingFacts>,
    usage: HashMap<BureauId, Usage>,
    backlog: u64,
    /// Those that have a share in it.
    waiting: HashSet<RecordingId>,
}

impl View {
    /// Starts to follow `uploads`, until `stop`. The condition `uploads-view` of `health` holds once it was read to its end.
    pub fn start(log: Arc<dyn Log>, health: Health, stop: CancellationToken) -> Arc<Self> {
        let partition = |_| Partition { position: watch::channel(0).0, changes: broadcast::channel(CHANGES).0 };
        let partitions = (0..log.partitions(Topic::Uploads)).map(partition).collect();
        let view = Arc::new(Self { log, known: RwLock::default(), partitions, is_read: AtomicBool::new(false) });
        health.expect("uploads-view");
        let follower = view.clone();
        tokio::spawn(async move { stop.run_until_cancelled(follower.follow(health)).await });
        view
    }

    async fn follow(&self, health: Health) {
        loop {
            let from = (0..).zip(self.partitions.iter().map(|partition| *partition.position.borrow())).collect();
            if let Err(error) = self.follow_from(from, &health).await {
                tracing::warn!(%error, "following uploads failed; trying again");
                health.down("uploads-view", error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow_from(&self, from: Vec<(u32, Offset)>, health: &Health) -> Result<(), LogError> {
        let mut unread: Vec<u32> = from.iter().map(|(p, _)| *p).collect();
        let mut follower = self.log.follow(Topic::Uploads, from).await?;
        while let Some(followed) = follower.recv().await {
            match followed? {
                Followed::Entry(entry) => self.apply(entry),
                Followed::End { partition, position } => {
                    if let Some(partition) = self.partitions.get(partition as usize) {
                        partition.advance(position);
                    }
                    unread.retain(|p| *p != partition);
                    if unread.is_empty() {
                        self.is_read.store(true, Ordering::Relaxed);
                        health.up("uploads-view");
                    }
                }
            }
        }
        Err(LogError::Unavailable("the follower ended".into()))
    }

    fn apply(&self, entry: Entry) {
        let Entry { partition: number, offset, record } = entry;
        let Some(partition) = self.partitions.get(number as usize) else { return };
        match fact::decode(&record.key, record.payload.as_deref()) {
            Ok((key, fact)) => {
                let recording = key.recording;
                self.known.write().unwrap_or_else(PoisonError::into_inner).apply(&key, offset, fact);
                partition.advance(offset + 1);
                // Nobody watching is no error.
                let _ = partition.changes.send(recording);
            }
            Err(error) => {
                tracing::error!(%error, partition = number, offset, "a record of uploads can't be read");
                partition.advance(offset + 1);
            }
        }
    }

    /// What is known of a recording of this bureau, read by `look`; `None` for an unknown one and for another bureau's.
    pub fn look<T>(&self, bureau: &BureauId, id: RecordingId, look: impl FnOnce(&RecordingFacts) -> T) -> Option<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let facts = known.recordings.get(&id)?;
        (facts.phase().is_some() && facts.bureau() == Some(bureau)).then(|| look(facts))
    }

    /// Whether a recording was announced or opened, by whomever.
    pub fn is_expected(&self, id: RecordingId) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).recordings.contains_key(&id)
    }

    /// As [`View::look`], but what is unknown is asked of the log before that is said.
    pub async fn find<T>(
        &self,
        bureau: &BureauId,
        id: RecordingId,
        look: impl Fn(&RecordingFacts) -> T,
    ) -> Result<T, Refusal> {
        if let Some(found) = self.look(bureau, id, &look) {
            return Ok(found);
        }
        self.catch_up(id).await?;
        self.look(bureau, id, look).ok_or_else(Refusal::not_found)
    }

    /// The bureau's recordings.
    pub fn recordings(&self, bureau: &BureauId) -> Vec<RecordingId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let own = known.recordings.iter().filter(|(_, f)| f.phase().is_some() && f.bureau() == Some(bureau));
        own.map(|(id, _)| *id).collect()
    }

    /// How many those are.
    pub fn count(&self, bureau: &BureauId) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.recordings.values().filter(|f| f.phase().is_some() && f.bureau() == Some(bureau)).count()
    }

    /// Uploads that are open, and bytes in the log that are not known to be in the store, of all bureaus.
    pub fn totals(&self) -> (u64, u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.usage.values().map(|usage| usage.open_uploads).sum(), known.backlog)
    }

    /// When the oldest segment in the log that is not known to be in the store was acknowledged: of the uploads that have such segments all
    /// are looked at. Before the log was read to its end it is not known.
    pub fn oldest_unstored(&self) -> Option<Option<Timestamp>> {
        self.is_read.load(Ordering::Relaxed).then(|| {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let recordings = known.waiting.iter().filter_map(|id| known.recordings.get(id));
            recordings.filter_map(waiting).filter_map(GenerationFacts::oldest_unstored).min()
        })
    }

    /// What each bureau has open.
    pub fn usages(&self) -> Vec<(BureauId, Usage)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.usage.iter().map(|(bureau, usage)| (bureau.clone(), *usage)).collect()
    }

    /// What a bureau has open, and the backlog of all.
    pub fn usage(&self, bureau: &BureauId) -> (Usage, u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.usage.get(bureau).copied().unwrap_or_default(), known.backlog)
    }

    /// Changes from now on, of these recordings' partitions, or of all where none is named. A receiver that lags behind must
    /// take a new snapshot.
    pub fn changes(&self, ids: &HashSet<RecordingId>) -> SelectAll<BroadcastStream<RecordingId>> {
        let wanted: HashSet<u32> = ids.iter().map(|id| self.partition(*id)).collect();
        let wanted = (0..).zip(&self.partitions).filter(|(number, _)| ids.is_empty() || wanted.contains(number));
        select_all(wanted.map(|(_, partition)| BroadcastStream::new(partition.changes.subscribe())))
    }

    /// Appends a fact and returns when it is durable.
    pub async fn record(&self, key: &FactKey, fact: &Fact) -> Result<Offset, LogError> {
        append_fact(&*self.log, key, Some(fact)).await
    }

    /// Waits until the fact of the recording at this offset is in the view, and all before it.
    pub async fn reach(&self, id: RecordingId, offset: Offset) -> Result<(), Refusal> {
        self.read_to(self.partition(id), offset + 1).await
    }

    /// Waits until everything that any process has appended about the recording before this call is in the view.
    pub async fn catch_up(&self, id: RecordingId) -> Result<(), Refusal> {
        self.catch_up_partition(self.partition(id)).await
    }

    /// As [`View::catch_up`], for a whole partition.
    pub async fn catch_up_partition(&self, partition: u32) -> Result<(), Refusal> {
        let end = self.log.end(Topic::Uploads, partition).await?;
        self.read_to(partition, end).await
    }

    async fn read_to(&self, partition: u32, end: Offset) -> Result<(), Refusal> {
        let behind = || Refusal::new(Reason::LogUnavailable, "the gateway is still reading the log: try again");
        let mut position = self.partitions.get(partition as usize).ok_or_else(behind)?.position.subscribe();
        match tokio::time::timeout(PATIENCE, position.wait_for(|at| *at >= end)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(behind()),
        }
    }

    /// The partition of a recording, of `footage` and `uploads` alike.
    pub fn partition(&self, id: RecordingId) -> u32 {
        partition::of(id, self.log.partitions(Topic::Uploads))
    }
}

impl Known {
    fn apply(&mut self, key: &FactKey, offset: Offset, fact: Option<Fact>) {
        let facts = self.recordings.entry(key.recording).or_default();
        let before = share(facts);
        facts.apply(key, offset, fact);
        let after = share(facts);
        if facts.is_empty() {
            self.recordings.remove(&key.recording);
        }
        if after.as_ref().is_some_and(|(_, usage)| usage.backlog > 0) {
            self.waiting.insert(key.recording);
        } else {
            self.waiting.remove(&key.recording);
        }
        if before == after {
            return;
        }
        if let Some((bureau, usage)) = before {
            let total = self.usage.entry(bureau).or_default();
            total.open_uploads -= usage.open_uploads;
            total.announced -= usage.announced;
            total.backlog -= usage.backlog;
            self.backlog -= usage.backlog;
        }
        if let Some((bureau, usage)) = after {
            let total = self.usage.entry(bureau).or_default();
            total.open_uploads += usage.open_uploads;
            total.announced += usage.announced;
            total.backlog += usage.backlog;
            self.backlog += usage.backlog;
        }
    }
}

/// What one recording adds to its bureau's usage.
fn share(facts: &RecordingFacts) -> Option<(BureauId, Usage)> {
    let bureau = facts.bureau()?.clone();
    let announced = u64::from(facts.phase().is_none() && facts.announced().is_some());
    let open_uploads = u64::from(facts.phase() == Some(Phase::Open));
    let backlog = waiting(facts).map_or(0, GenerationFacts::backlog);
    Some((bureau, Usage { open_uploads, announced, backlog }))
}

/// The generation whose segments wait for the store. An acknowledgement that comes late, after the end, waits for nobody.
fn waiting(facts: &RecordingFacts) -> Option<&GenerationFacts> {
    let waits = matches!(facts.phase(), Some(Phase::Open | Phase::Sealed));
    facts.now().filter(|now| waits && !now.is_complete())
}
