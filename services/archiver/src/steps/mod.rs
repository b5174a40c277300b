//! The steps: what touches the log and the store. Each may be repeated at any point, by any archiver.

mod announce;
mod claim;
mod complete;
mod finish;
mod give_up;
mod part;

use std::sync::Arc;

use bytes::Bytes;
use caselock_domain::{
    event::RecordingEvent,
    fact::{Fact, FactKey, Nonce, Opened, Subject},
    id::RecordingId,
    partition,
    receipt::ReceiptSigner,
    state::{GenerationFacts, RecordingFacts},
    time::Clock,
};
use caselock_log::{Log, Offset, Record, Topic};
use caselock_store::Store;
use jiff::Timestamp;

use crate::{
    config::Floor,
    metrics::ArchiverMetrics,
    plan::Step,
    retry::{WorkError, until_done},
};

pub use part::{PartOutcome, Segment};

/// What the steps work with.
pub struct Worker {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub signer: ReceiptSigner,
    pub clock: Clock,
    pub nonce: fn() -> Nonce,
    pub floor: Floor,
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

impl Outcome {
    fn doomed(reason: &'static str) -> Self {
        Self { settled_at: 0, doomed: Some(reason) }
    }
}

/// The recording a step works on, as its facts are.
pub struct Job {
    pub id: RecordingId,
    pub facts: RecordingFacts,
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
    /// Does a step, repeating it until it is done or fails for good.
    pub async fn run(&self, step: Step, job: &Job) -> Result<Outcome, WorkError> {
        let m = &self.metrics;
        match step {
            Step::Wait => Ok(Outcome::default()),
            Step::Claim => until_done("claim", m, || self.claim(job)).await,
            Step::Complete => until_done("complete", m, || self.complete(job)).await,
            Step::Finish => until_done("finish", m, || self.finish(job)).await,
            Step::Announce => until_done("announce", m, || self.announce(job)).await,
            Step::Reset(reason) => until_done("reset", m, || self.reset(job, reason)).await,
            Step::AnnounceReset => until_done("announce-reset", m, || self.announce_reset(job)).await,
            Step::Abandon(reason) => until_done("abandon", m, || self.abandon(job, reason)).await,
            Step::AnnounceAbandoned => until_done("announce-abandoned", m, || self.announce_abandoned(job)).await,
            Step::DropLosers => until_done("drop-losers", m, || self.drop_losers(job)).await,
            Step::Forget => until_done("forget", m, || self.forget(job)).await,
        }
    }

    /// Appends a fact, or with `None` its tombstone.
    async fn record(&self, key: &FactKey, fact: Option<Fact>) -> Result<Offset, WorkError> {
        let partition = partition::of(key.recording, self.log.partitions(Topic::Uploads));
        let record = match fact {
            Some(fact) => Record::new(key.encode(), fact.encode()).header("cl-schema", "1"),
            None => Record::tombstone(key.encode()),
        };
        Ok(self.log.append(Topic::Uploads, partition, record).await?)
    }

    /// Appends a fact of the job's generation; the outcome waits for it.
    async fn record_now(&self, job: &Job, subject: Subject, fact: Fact) -> Result<Outcome, WorkError> {
        let offset = self.record(&job.key(subject), Some(fact)).await?;
        Ok(Outcome { settled_at: offset + 1, doomed: None })
    }

    /// Removes facts of a generation.
    async fn tidy(&self, job: &Job, generation: u32, subjects: Vec<Subject>) -> Result<Outcome, WorkError> {
        let mut settled_at = 0;
        for subject in subjects {
            let key = FactKey { recording: job.id, generation, subject };
            settled_at = self.record(&key, None).await? + 1;
        }
        Ok(Outcome { settled_at, doomed: None })
    }

    /// Publishes an event about the job's recording, as of the time of the fact it reports.
    async fn publish(&self, job: &Job, event: &RecordingEvent, at: Timestamp) -> Result<(), WorkError> {
        let record = event.record(&job.opened()?.bureau, job.id, job.generation(), at);
        let headers = record.headers.into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value))).collect();
        let record = Record { key: record.key, headers, payload: Some(record.payload) };
        let partition = partition::of(job.id, self.log.partitions(Topic::Events));
        self.log.append(Topic::Events, partition, record).await?;
        Ok(())
    }
}
