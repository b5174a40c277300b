//! The service: start-up checks, the group, and the window of segments in memory.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use caselock_domain::{fact::Nonce, footage::SegmentRef, shape::LARGE_SEGMENT, time::Clock};
use caselock_log::{Assignment, Control, Delivered, Followed, Log, LogError, Member, Topic};
use caselock_runtime::{health::Health, retry::until_there};
use caselock_store::{
    Store, StoreError,
    probe::{self, ProbeError},
};
use jiff::SignedDuration;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock_check::ClockCheck,
    config::ArchiverConfig,
    metrics::ArchiverMetrics,
    partition::{self, Input, Setup},
    signing_key::SigningKey,
    steps::{Segment, Worker},
};

/// The group whose commits say what of `footage` is done with.
const GROUP: &str = "caselock-archiver";
/// Inputs that may wait for a partition's task.
const INPUTS: usize = 64;
/// Permits count pages, since a semaphore's are 32 bits.
const PAGE: usize = 64 << 10;
/// How long to wait before joining again after an error.
const PAUSE: Duration = Duration::from_secs(2);

/// What an archiver is built on.
pub struct ArchiverContext {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// Draws 16 random bytes.
    pub nonce: fn() -> Nonce,
    /// Told when the archiver is ready.
    pub health: Health,
    /// Cancelled to make it drain.
    pub stop: CancellationToken,
}

/// An archiver that is running.
pub struct Archiver(tokio::task::JoinHandle<()>);

impl Archiver {
    /// Waits until it has drained and stopped.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.0.await.context("join the archiver")
    }
}

/// Checks settings, topics and the store, then works until `context.stop`. Refuses to run where a check fails, naming it.
pub async fn start(config: ArchiverConfig, context: ArchiverContext) -> anyhow::Result<Archiver> {
    let ArchiverContext { log, store, clock, nonce, health, stop } = context;
    let floor = config.retention.floor()?;
    let signing_key = SigningKey::open(&config.signing_key)?;
    for topic in Topic::ALL {
        let checked = until_there("check-topic", &health, LogError::is_retryable, || log.check(topic)).await;
        checked.with_context(|| format!("check {topic}"))?;
    }
    if log.partitions(Topic::Footage) != log.partitions(Topic::Uploads) {
        bail!("footage and uploads have different partition counts: they must agree");
    }
    let probed = until_there("check-store", &health, ProbeError::is_retryable, async || {
        probe::probe(&*store, clock(), &hex::encode(nonce())).await
    });
    probed.await.context("check the store")?;
    let abandon_after = SignedDuration::from_hours(24 * i64::from(config.abandon_after_days));
    let asked =
        until_there("ask-lifecycle", &health, StoreError::is_retryable, || store.unfinished_uploads_kept()).await;
    if let Some(kept) = asked.context("ask for the store's lifecycle rules")?
        && kept <= abandon_after
    {
        let days = kept.as_hours() / 24;
        bail!(
            "the store drops unfinished uploads after {days} days: set archiver.abandon_after_days below that, or the \
             bucket's AbortIncompleteMultipartUpload above it"
        );
    }
    tracing::info!(key_id = signing_key.get().key_id(), %floor, "the store keeps its word");

    health.expect("archiver-group");
    let clock_check = Arc::new(ClockCheck::new(health.clone()));
    let watching = clock_check.clone().watch(store.clone(), clock.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
    let worker = Worker { log, store, signing_key, clock, clock_check, nonce, floor, metrics: ArchiverMetrics::new() };
    let service = Service {
        worker: Arc::new(worker),
        // At the least, the largest segment fits.
        window: Arc::new(Semaphore::new((config.window as usize / PAGE).max(LARGE_SEGMENT as usize / PAGE))),
        abandon_after,
        keep_facts: SignedDuration::from_hours(24 * i64::from(config.keep_facts_days)),
        health,
        stop,
    };
    Ok(Archiver(tokio::spawn(service.run())))
}

struct Service {
    worker: Arc<Worker>,
    window: Arc<Semaphore>,
    abandon_after: SignedDuration,
    keep_facts: SignedDuration,
    health: Health,
    stop: CancellationToken,
}

/// The partitions of one assignment, and their tasks.
struct Owned {
    epoch: u64,
    inputs: HashMap<u32, mpsc::Sender<Input>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Service {
    async fn run(self) {
        while !self.stop.is_cancelled() {
            let joined = tokio::select! {
                () = self.stop.cancelled() => return,
                joined = self.worker.log.join(GROUP, Topic::Footage) => joined,
            };
            let ended = match joined {
                Ok(member) => self.work(member).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                self.health.down("archiver-group", &error);
                tracing::error!(%error, "the archiver left its group; joining again");
                let _ = tokio::time::timeout(PAUSE, self.stop.cancelled()).await;
            }
        }
    }

    /// Works as a member until it fails or the service stops.
    async fn work(&self, mut member: Member) -> Result<(), LogError> {
        let mut owned: Option<Owned> = None;
        let mut pending: Option<Delivered> = None;
        let ended = loop {
            let pages = pending.as_ref().map_or(0, pages);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ok(()),
                control = member.control.recv() => match control {
                    Some(Control::Assigned(assignment)) => {
                        self.health.up("archiver-group");
                        owned = Some(self.own(assignment, &member));
                    }
                    Some(Control::Revoked { done, .. }) => {
                        pending = None;
                        release(owned.take()).await;
                        // The group may have gone on without us.
                        let _ = done.send(());
                    }
                    Some(Control::Failed(error)) => break Err(error),
                    None => break Err(LogError::Unavailable("the group's membership ended".into())),
                },
                permit = self.window.clone().acquire_many_owned(pages), if pending.is_some() => {
                    if let (Ok(permit), Some(delivered)) = (permit, pending.take()) {
                        hand_over(owned.as_ref(), delivered, permit).await;
                    }
                }
                // Partitions end only when they are released: anything else is a bug, and everything is begun anew.
                Some(_) = ended_early(owned.as_mut()) => {
                    break Err(LogError::Unavailable("a partition's task ended unexpectedly".into()));
                }
                delivered = member.entries.recv(), if pending.is_none() => match delivered {
                    Some(delivered) => pending = Some(delivered),
                    None => break Err(LogError::Unavailable("the group's records ended".into())),
                },
            }
        };
        release(owned).await;
        ended
    }

    /// Begins to drive the partitions of an assignment.
    fn own(&self, assignment: Assignment, member: &Member) -> Owned {
        let Assignment { epoch, partitions } = assignment;
        tracing::info!(epoch, count = partitions.len(), "partitions assigned");
        let stop = CancellationToken::new();
        let mut owned = Owned { epoch, inputs: HashMap::new(), tasks: JoinSet::new(), stop: stop.clone() };
        for (number, position) in partitions {
            let (sender, inputs) = mpsc::channel(INPUTS);
            let setup = Setup {
                number,
                epoch,
                position,
                group: GROUP,
                worker: self.worker.clone(),
                commits: member.commits.clone(),
                abandon_after: self.abandon_after,
                keep_facts: self.keep_facts,
            };
            owned.tasks.spawn(partition::drive(setup, inputs, stop.clone()));
            owned.inputs.insert(number, sender);
        }
        let facts = feed_facts(self.worker.log.clone(), owned.inputs.clone());
        owned.tasks.spawn(async move {
            let _ = stop.run_until_cancelled_owned(facts).await;
        });
        owned
    }
}

fn pages(delivered: &Delivered) -> u32 {
    // Never more than the window has, or it would wait for ever.
    delivered.entry.record.payload_len().div_ceil(PAGE).clamp(1, LARGE_SEGMENT as usize / PAGE) as u32
}

async fn hand_over(owned: Option<&Owned>, delivered: Delivered, permit: OwnedSemaphorePermit) {
    // What was fetched under an assignment that is over comes again, to whoever owns the partition now.
    let Some(owned) = owned.filter(|owned| owned.epoch == delivered.epoch) else { return };
    let entry = delivered.entry;
    let Some(inputs) = owned.inputs.get(&entry.partition) else { return };
    let input = match SegmentRef::from_headers(&entry.record.headers) {
        Ok(segment) => Input::Segment(Segment { segment, entry, permit, since: Instant::now() }),
        Err(header) => Input::Malformed(entry, permit, header),
    };
    // A partition that ended is being released.
    let _ = inputs.send(input).await;
}

async fn ended_early(owned: Option<&mut Owned>) -> Option<()> {
    owned?.tasks.join_next().await.map(drop)
}

async fn release(owned: Option<Owned>) {
    if let Some(mut owned) = owned {
        owned.stop.cancel();
        owned.inputs.clear();
        while owned.tasks.join_next().await.is_some() {}
        tracing::info!(epoch = owned.epoch, "partitions released");
    }
}

/// Feeds the facts of the partitions to their tasks, from the start of `uploads`, for as long as they last.
async fn feed_facts(log: Arc<dyn Log>, inputs: HashMap<u32, mpsc::Sender<Input>>) {
    let mut positions: HashMap<u32, u64> = inputs.keys().map(|number| (*number, 0)).collect();
    loop {
        let from = positions.iter().map(|(number, position)| (*number, *position)).collect();
        let failed = match log.follow(Topic::Uploads, from).await {
            Ok(mut follower) => loop {
                let (number, position, input) = match follower.recv().await {
                    Some(Ok(Followed::Entry(entry))) => (entry.partition, entry.offset + 1, Input::Fact(entry)),
                    Some(Ok(Followed::End { partition, position })) => (partition, position, Input::End(position)),
                    Some(Err(error)) => break error,
                    None => break LogError::Unavailable("the follower ended".into()),
                };
                positions.insert(number, position);
                if let Some(inputs) = inputs.get(&number)
                    && inputs.send(input).await.is_err()
                {
                    return;
                }
            },
            Err(error) => error,
        };
        tracing::warn!(error = %failed, "following uploads failed; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
