//! Members of a group: one thread polls. Its callbacks hand partitions over and take them back.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use caselock_log::{Assignment, Commits, Control, Delivered, LogError, Member, Offset, Topic};
use caselock_runtime::watched::Watched;
use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
    topic_partition_list,
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::{
    KafkaConfig,
    error::{convert, is_passing},
    message::entry,
    renewed::files,
};

const POLL: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(10);
/// Records that may wait for the member.
const QUEUE: usize = 2;
/// How long a record may wait before fetching is paused. Pausing throws away what was fetched ahead, so it is not done for
/// every moment the member is busy; but the group must not wait for a member whose store is away.
const BUSY: Duration = Duration::from_secs(2);

type GroupConsumer = BaseConsumer<Callbacks>;

/// Joins the group.
pub fn join(config: &KafkaConfig, group: &str, topic: Topic) -> KafkaResult<Member> {
    let (control, control_receiver) = mpsc::channel(16);
    let (entries, entry_receiver) = mpsc::channel(QUEUE);
    let epoch = Arc::new(AtomicU64::new(0));
    let name = config.topic(topic);
    let callbacks = Callbacks {
        control: control.clone(),
        epoch: epoch.clone(),
        name: name.clone(),
        release: Duration::from_millis(u64::from(config.session_timeout_ms)),
    };
    let files = files(config);
    let consumer: GroupConsumer = config
        .consumer()?
        .set("group.id", config.group(group))
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (config.session_timeout_ms / 5).max(200).to_string())
        // Cooperative assignment has open bugs in rust-rdkafka.
        .set("partition.assignment.strategy", "range")
        .create_with_context(callbacks)?;
    consumer.subscribe(&[&name])?;
    let consumer = Arc::new(consumer);
    let commits = Arc::new(KafkaCommits { consumer: Arc::downgrade(&consumer), epoch: epoch.clone(), topic, name });
    let polling = Polling {
        config: config.clone(),
        files,
        consumer,
        control,
        entries,
        epoch,
        topic,
        waiting: VecDeque::new(),
        paused: false,
        seen: 0,
    };
    std::thread::Builder::new()
        .name("log-member".into())
        .spawn(move || polling.run())
        .map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
    Ok(Member { control: control_receiver, entries: entry_receiver, commits })
}

struct Polling {
    config: KafkaConfig,
    files: Watched,
    consumer: Arc<GroupConsumer>,
    control: mpsc::Sender<Control>,
    entries: mpsc::Sender<Delivered>,
    epoch: Arc<AtomicU64>,
    topic: Topic,
    waiting: VecDeque<Delivered>,
    paused: bool,
    /// The assignment `waiting` and `paused` belong to.
    seen: u64,
}

impl Polling {
    fn run(mut self) {
        while !self.control.is_closed() {
            if self.files.have_changed() && self.has_left() {
                let why = "files of kafka.properties have changed: joining again with them";
                let _ = self.control.blocking_send(Control::Failed(LogError::Unavailable(why.into())));
                return;
            }
            // While a record waits, the poll only serves the group.
            let patience = if self.waiting.is_empty() { POLL } else { Duration::from_millis(10) };
            match self.consumer.poll(patience) {
                None => {}
                Some(Ok(message)) => {
                    let entry = entry(&message);
                    drop(message);
                    let epoch = self.epoch.load(Ordering::SeqCst);
                    self.waiting.push_back(Delivered { epoch, entry });
                }
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, topic = %self.topic, "consuming goes on after an error");
                }
                Some(Err(error)) => {
                    let _ = self.control.blocking_send(Control::Failed(convert(self.topic, 0, &error)));
                    return;
                }
            }
            self.follow_assignment();
            self.pass_on();
        }
    }

    /// Leaves the group, as at a revocation, if a client with the files as they are now can reach the brokers.
    fn has_left(&mut self) -> bool {
        self.files.use_now();
        let reaches = || -> KafkaResult<()> {
            let other: BaseConsumer = self.config.consumer()?.create()?;
            other.fetch_metadata(Some(&self.config.topic(self.topic)), ASK).map(drop)
        };
        if let Err(error) = reaches() {
            tracing::error!(%error, "files of kafka.properties have changed, and can't be used");
            return false;
        }
        self.consumer.unsubscribe();
        let give_up = Instant::now() + ASK + Duration::from_millis(self.config.session_timeout_ms.into());
        let has_some = || self.consumer.assignment().is_ok_and(|assigned| assigned.count() > 0);
        while has_some() && Instant::now() < give_up {
            // What comes now comes again to whoever has the partition next.
            let _ = self.consumer.poll(POLL);
        }
        true
    }

    /// After a rebalance: what waits of the old assignment is dropped, and nothing stays paused. librdkafka keeps a
    /// partition paused through its loss and return, and new partitions are not paused with the old.
    fn follow_assignment(&mut self) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        if epoch != self.seen {
            self.seen = epoch;
            self.waiting.retain(|delivered| delivered.epoch == epoch);
            self.set_paused(false);
        }
    }

    /// Passes waiting records on; after a while without success, pauses the fetching until there is room again.
    fn pass_on(&mut self) {
        let since = Instant::now();
        while let Some(next) = self.waiting.pop_front() {
            match self.entries.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(next)) => {
                    self.waiting.push_front(next);
                    if self.paused || self.control.is_closed() {
                        return;
                    }
                    if since.elapsed() > BUSY {
                        return self.set_paused(true);
                    }
                    sleep(Duration::from_millis(2));
                }
            }
        }
        if self.paused {
            self.set_paused(false);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        let changed = self
            .consumer
            .assignment()
            .and_then(|assigned| if paused { self.consumer.pause(&assigned) } else { self.consumer.resume(&assigned) });
        match changed {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::warn!(%error, paused, "can't pause or resume"),
        }
    }
}

/// What librdkafka calls, from within `poll`.
struct Callbacks {
    control: mpsc::Sender<Control>,
    epoch: Arc<AtomicU64>,
    name: String,
    /// How long the member may take to give up its partitions.
    release: Duration,
}

impl ClientContext for Callbacks {}

impl ConsumerContext for Callbacks {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            let (done, mut answer) = oneshot::channel();
            let lost = consumer.assignment_lost();
            if self.control.blocking_send(Control::Revoked { lost, done }).is_ok() {
                let give_up = Instant::now() + self.release;
                while answer.try_recv() == Err(oneshot::error::TryRecvError::Empty) && Instant::now() < give_up {
                    sleep(Duration::from_millis(2));
                }
            }
            // From here on a commit of the old assignment is refused.
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let control = match rebalance {
            Rebalance::Assign(partitions) => {
                let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
                match positions(consumer, &self.name, partitions) {
                    Ok(partitions) => Control::Assigned(Assignment { epoch, partitions }),
                    Err(error) => Control::Failed(LogError::Unavailable(error.to_string())),
                }
            }
            Rebalance::Revoke(_) => return,
            Rebalance::Error(error) => Control::Failed(LogError::Unavailable(error.to_string())),
        };
        // A member that is being dropped does not want to know.
        let _ = self.control.blocking_send(control);
    }
}

/// Where each partition begins: what is committed, or the start of the log where nothing is, or where that is gone.
fn positions(
    consumer: &BaseConsumer<Callbacks>,
    name: &str,
    assigned: &TopicPartitionList,
) -> KafkaResult<Vec<(u32, Offset)>> {
    if assigned.count() == 0 {
        return Ok(Vec::new());
    }
    let mut wanted = TopicPartitionList::new();
    for element in assigned.elements() {
        wanted.add_partition(name, element.partition());
    }
    let committed = consumer.committed_offsets(wanted, ASK)?;
    let mut positions = Vec::new();
    for element in committed.elements() {
        let partition = element.partition();
        let (start, end) = consumer.fetch_watermarks(name, partition, ASK)?;
        let position = match element.offset() {
            topic_partition_list::Offset::Offset(offset) if (start..=end).contains(&offset) => offset,
            topic_partition_list::Offset::Offset(offset) => {
                tracing::error!(partition, offset, start, end, "the commit lies outside the log; from the start");
                start
            }
            _ => start,
        };
        positions.push((partition as u32, position as u64));
    }
    Ok(positions)
}

struct KafkaCommits {
    consumer: Weak<GroupConsumer>,
    epoch: Arc<AtomicU64>,
    topic: Topic,
    name: String,
}

#[async_trait]
impl Commits for KafkaCommits {
    async fn commit(&self, epoch: u64, partition: u32, offset: Offset) -> Result<(), LogError> {
        let topic = self.topic;
        let fenced = LogError::Fenced { topic, partition };
        let Some(consumer) = self.consumer.upgrade() else { return Err(fenced) };
        if self.epoch.load(Ordering::SeqCst) != epoch {
            return Err(fenced);
        }
        let mut offsets = TopicPartitionList::new();
        let offset = topic_partition_list::Offset::Offset(offset as i64);
        offsets
            .add_partition_offset(&self.name, partition as i32, offset)
            .map_err(|e| convert(topic, partition, &e))?;
        let committed = tokio::task::spawn_blocking(move || consumer.commit(&offsets, CommitMode::Sync)).await;
        let committed = committed.map_err(|e| LogError::Unavailable(e.to_string()))?;
        committed.map_err(|e| convert(topic, partition, &e))
    }
}
