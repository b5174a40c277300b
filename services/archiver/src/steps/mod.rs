//! The steps: what touches the log and the store. Each may be repeated at any point, by any archiver.

mod announce;
mod claim;
mod complete;
mod finish;
mod give_up;
mod part;
mod put;

use std::sync::Arc;

use caselock_domain::{
    event::RecordingEvent,
    fact::{Fact, FactKey, Nonce, Opened, Subject},
    id::RecordingId,
    object_key, partition, retention,
    shape::LARGE_SEGMENT,
    state::{GenerationFacts, RecordingFacts},
    time::Clock,
};
use caselock_log::{Log, Offset, Topic, append_fact, publish};
use caselock_runtime::trace;
use caselock_store::{NewObject, Store};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{Span, Timestamp};

use crate::{
    clock_check::ClockCheck,
    metrics::ArchiverMetrics,
    plan::Step,
    retry::{WorkError, for_a_while},
    signing_key::SigningKey,
};

pub use part::{PartOutcome, Segment};

/// Tombstones that are on their way at once.
const TOMBSTONES: usize = 64;

/// What the steps work with.
pub struct Worker {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub signing_key: SigningKey,
    pub clock: Clock,
    pub clock_check: Arc<ClockCheck>,
    pub nonce: fn() -> Nonce,
    pub floor: Span,
    pub metrics: ArchiverMetrics,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every fact the step wrote is before this offset of `uploads`: wait until it is in the view before deciding anew.
    pub settled_at: Offset,
    /// The generation can't be finished, for this reason.
    pub doomed: Option<&'static str>,
}

/// The recording a step works on, as its facts are.
pub struct Job {
    pub id: RecordingId,
    pub facts: RecordingFacts,
    /// The segment that [`Step::Put`] stores.
    pub segment: Option<Segment>,
}

impl Job {
    fn generation(&self) -> u32 {
        self.facts.current()
    }

    fn now(&self) -> Result<&GenerationFacts, WorkError> {
        self.facts.now().ok_or_else(|| WorkError::Inconsistent("no facts of the current generation".into()))
    }

    fn opened(&self) -> Result<&Opened, WorkError> {
        self.facts.opened().ok_or_else(|| WorkError::Inconsistent("no opening is known".into()))
    }

    fn key(&self, subject: Subject) -> FactKey {
        FactKey { recording: self.id, generation: self.generation(), subject }
    }
}

impl Worker {
    /// Does a step, repeating it for a while where that may help. Giving up is tried once for each plan: facts that came
    /// meanwhile may forbid it.
    pub async fn run(&self, step: Step, job: &Job) -> Result<Outcome, WorkError> {
        match step {
            Step::Wait => Ok(Outcome::default()),
            Step::Put => for_a_while("put", || self.put(job)).await,
            Step::Claim => for_a_while("claim", || self.claim(job)).await,
            Step::Complete => for_a_while("complete", || self.complete(job)).await,
            Step::Finish => for_a_while("finish", || self.finish(job)).await,
            Step::Announce => for_a_while("announce", || self.announce(job)).await,
            Step::Reset(reason) => self.reset(job, reason).await,
            Step::AnnounceReset => for_a_while("announce-reset", || self.announce_reset(job)).await,
            Step::Abandon(reason) => self.abandon(job, reason).await,
            Step::AnnounceAbandoned => for_a_while("announce-abandoned", || self.announce_abandoned(job)).await,
            Step::DropLosers => for_a_while("drop-losers", || self.drop_losers(job)).await,
            Step::Tidy => for_a_while("tidy", || self.tidy_late(job)).await,
            Step::Forget => for_a_while("forget", || self.forget(job)).await,
        }
    }

    /// Whether the store takes uploads at all: what fails then is one recording's.
    pub async fn store_takes_uploads(&self) -> bool {
        let begin = async {
            let key = object_key::probe("upload");
            let lock_until = retention::end_of((self.clock)(), &self.floor)?;
            let new = NewObject { content_type: "text/plain".into(), part_size: LARGE_SEGMENT, lock_until };
            let id = self.store.begin(&key, &new).await?;
            self.store.abort(&key, &id).await?;
            Ok::<(), WorkError>(())
        };
        begin.await.is_ok()
    }

    /// Appends a fact, or with `None` its tombstone.
    async fn record(&self, key: &FactKey, fact: Option<Fact>) -> Result<Offset, WorkError> {
        Ok(append_fact(&*self.log, key, fact.as_ref()).await?)
    }

    /// Appends a fact of the job's generation; the outcome waits for it.
    async fn record_now(&self, job: &Job, subject: Subject, fact: Fact) -> Result<Outcome, WorkError> {
        let offset = self.record(&job.key(subject), Some(fact)).await?;
        Ok(Outcome { settled_at: offset + 1, doomed: None })
    }

    /// The generation can't be finished. Whatever was in the log by now must be in the view before that is acted on.
    async fn doomed(&self, job: &Job, reason: &'static str) -> Result<Outcome, WorkError> {
        Ok(Outcome { settled_at: self.end_of_facts(job.id).await?, doomed: Some(reason) })
    }

    /// The present end of the recording's partition of `uploads`.
    async fn end_of_facts(&self, id: RecordingId) -> Result<Offset, WorkError> {
        let partition = partition::of(id, self.log.partitions(Topic::Uploads));
        Ok(self.log.end(Topic::Uploads, partition).await?)
    }

    /// Removes facts that came after the recording was stored, and what they claim.
    async fn tidy_late(&self, job: &Job) -> Result<Outcome, WorkError> {
        self.abort_claims(job).await?;
        self.tidy(job, job.generation(), job.now()?.finished_work()).await
    }

    /// Drops every multipart upload of the generation that is still there.
    async fn abort_claims(&self, job: &Job) -> Result<(), WorkError> {
        let key = object_key::original(&job.opened()?.bureau, job.id, job.generation());
        for claim in job.now()?.claims() {
            self.store.abort(&key, claim).await?;
        }
        Ok(())
    }

    /// Removes facts of a generation, in whatever order: while one is there, all of this is repeated.
    async fn tidy(&self, job: &Job, generation: u32, subjects: Vec<Subject>) -> Result<Outcome, WorkError> {
        let key = |subject| FactKey { recording: job.id, generation, subject };
        let tombstones = subjects.into_iter().map(|subject| async move { self.record(&key(subject), None).await });
        let offsets: Vec<_> = stream::iter(tombstones).buffered(TOMBSTONES).try_collect().await?;
        Ok(Outcome { settled_at: offsets.into_iter().max().map_or(0, |last| last + 1), doomed: None })
    }

    /// Publishes an event about the job's recording, as of the time of the fact it reports.
    async fn publish(&self, job: &Job, event: &RecordingEvent, at: Timestamp) -> Result<(), WorkError> {
        let (bureau, traceparent) = (&job.opened()?.bureau, trace::traceparent());
        publish(&*self.log, event, bureau, job.id, job.generation(), at, traceparent).await?;
        Ok(())
    }
}
