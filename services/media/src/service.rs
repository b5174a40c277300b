//! The service: the group, jobs side by side, the contiguous head.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use caselock_domain::{id::RecordingId, time::Clock};
use caselock_log::{Control, Entry, Head, Log, LogError, Member, Topic};
use caselock_runtime::{
    health::Health,
    process_span,
    retry::until_there,
    trace::{self, TRACEPARENT},
};
use caselock_store::Store;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty};

use crate::{config::MediaConfig, error::JobError, job::Jobs, metrics::MediaMetrics};

const GROUP: &str = "caselock-media";
const PAUSE: Duration = Duration::from_secs(2);

/// What the media service is built on.
pub struct MediaContext {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// Told when the service is ready.
    pub health: Health,
    /// Cancelled to make it stop.
    pub stop: CancellationToken,
}

/// A media service that is running.
pub struct Media(tokio::task::JoinHandle<()>);

impl Media {
    /// Waits until it has stopped. Jobs in hand are left: they come again.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.0.await.context("join media")
    }
}

/// Finds out what the sandbox can do here, then works until `context.stop`.
pub async fn start(config: MediaConfig, context: MediaContext) -> anyhow::Result<Media> {
    let MediaContext { log, store, clock, health, stop } = context;
    let program = config.worker().context("find the worker")?;
    let check = tokio::process::Command::new(&program).arg("--check-sandbox").output().await;
    let check = check.with_context(|| format!("start {}", program.display()))?;
    anyhow::ensure!(check.status.success(), "{} --check-sandbox failed", program.display());
    tracing::info!(sandbox = %String::from_utf8_lossy(&check.stdout).trim(), "the worker's sandbox");
    let checked = until_there("check-topic", &health, LogError::is_retryable, || log.check(Topic::MediaJobs)).await;
    checked.context("check the topic")?;
    health.expect("media-group");
    let room = Arc::new(Semaphore::new(config.jobs.max(1) as usize));
    let jobs = Arc::new(Jobs { log, store, clock, config, metrics: MediaMetrics::new() });
    Ok(Media(tokio::spawn(Service { jobs, room, health, stop }.run())))
}

struct Service {
    jobs: Arc<Jobs>,
    room: Arc<Semaphore>,
    health: Health,
    stop: CancellationToken,
}

/// The partitions of one assignment.
#[derive(Default)]
struct Owned {
    epoch: u64,
    heads: HashMap<u32, Head>,
    /// Dropped with the assignment: jobs in hand are ended, and come again.
    tasks: JoinSet<(u32, u64, Result<(), JobError>)>,
}

impl Service {
    async fn run(self) {
        while !self.stop.is_cancelled() {
            let worked = async {
                let member = self.jobs.log.join(GROUP, Topic::MediaJobs).await?;
                self.work(member).await
            };
            let ended = tokio::select! {
                () = self.stop.cancelled() => return,
                ended = worked => ended,
            };
            if let Err(error) = ended {
                self.health.down("media-group", &error);
                tracing::error!(%error, "media left its group; joining again");
                let _ = tokio::time::timeout(PAUSE, self.stop.cancelled()).await;
            }
        }
    }

    async fn work(&self, mut member: Member) -> Result<(), LogError> {
        let gone = || LogError::Unavailable("the group's membership ended".into());
        let mut owned = Owned::default();
        let mut permit = None;
        loop {
            tokio::select! {
                biased;
                control = member.control.recv() => match control.ok_or_else(gone)? {
                    Control::Assigned(assignment) => {
                        self.health.up("media-group");
                        let heads = assignment.partitions.iter().map(|(p, position)| (*p, Head::new(*position)));
                        owned = Owned { epoch: assignment.epoch, heads: heads.collect(), tasks: JoinSet::new() };
                    }
                    Control::Revoked { done, .. } => {
                        owned = Owned::default();
                        // The group may have gone on without us.
                        let _ = done.send(());
                    }
                    Control::Failed(error) => return Err(error),
                },
                Some(done) = owned.tasks.join_next() => self.done(&member, &mut owned, done).await?,
                acquired = self.room.clone().acquire_owned(), if permit.is_none() => permit = acquired.ok(),
                delivered = member.entries.recv(), if permit.is_some() => {
                    let delivered = delivered.ok_or_else(gone)?;
                    // What was fetched under an assignment that is over comes again, to whoever owns the partition now.
                    if let Some(permit) = permit.take().filter(|_| delivered.epoch == owned.epoch) {
                        self.begin(&mut owned, delivered.entry, permit);
                    }
                }
            }
        }
    }

    fn begin(&self, owned: &mut Owned, entry: Entry, permit: OwnedSemaphorePermit) {
        let Some(head) = owned.heads.get_mut(&entry.partition) else { return };
        head.begin(entry.offset);
        let jobs = self.jobs.clone();
        let span = span(&entry);
        let work = async move {
            let _in_hand = jobs.metrics.begin();
            let began = Instant::now();
            let done = jobs.run_until_done(&entry).await;
            let seconds = began.elapsed().as_secs_f64();
            match &done {
                Ok(outcome) => {
                    jobs.metrics.ended(*outcome, began.elapsed());
                    tracing::info!(seconds, outcome = outcome.as_str(), "a media job ended");
                }
                Err(error) => tracing::warn!(seconds, %error, "a media job could not be ended"),
            }
            drop(permit);
            (entry.partition, entry.offset, done.map(drop))
        };
        owned.tasks.spawn(work.instrument(span));
    }

    async fn done(
        &self,
        member: &Member,
        owned: &mut Owned,
        done: Result<(u32, u64, Result<(), JobError>), tokio::task::JoinError>,
    ) -> Result<(), LogError> {
        let (partition, offset, result) = match done {
            Ok(done) => done,
            // A bug. Joining again brings the job again.
            Err(error) => return Err(LogError::Unavailable(format!("a job ended unexpectedly: {error}"))),
        };
        if let Err(error) = result {
            // Not even its dead letter could be written.
            return Err(LogError::Unavailable(error.to_string()));
        }
        let Some(head) = owned.heads.get_mut(&partition) else { return Ok(()) };
        let before = head.position();
        head.finish(offset);
        let position = head.position();
        if position > before {
            match member.commits.commit(owned.epoch, partition, position).await {
                Err(LogError::Fenced { .. }) => return Ok(()),
                committed => committed?,
            }
            if let Some(committed) = self.jobs.log.committed(GROUP, Topic::MediaJobs, partition).await? {
                self.jobs.log.delete_before(Topic::MediaJobs, partition, committed).await?;
            }
        }
        Ok(())
    }
}

/// The span of a job: part of its recording's trace.
fn span(entry: &Entry) -> Span {
    let key = String::from_utf8_lossy(&entry.record.key);
    let span = process_span!("media-job", GROUP, Topic::MediaJobs, entry, recording = %key, bureau = Empty, content_type = Empty, size = Empty, tries = Empty);
    let traceparent = entry.record.header_value(TRACEPARENT).map(|value| &value[..]);
    match key.parse::<RecordingId>() {
        Ok(recording) => trace::of_recording(&span, traceparent, recording.as_bytes()),
        // It becomes a dead letter.
        Err(_) => drop(trace::continue_from(&span, traceparent)),
    }
    span
}
