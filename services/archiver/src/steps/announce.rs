//! Telling what happened, after the fact; then removing the facts that are no longer needed.

use bytes::Bytes;
use caselock_domain::{
    event::{self, RecordingEvent},
    partition,
    time::to_proto,
};
use caselock_log::{Record, Topic};
use caselock_proto::{
    events::v1::{RecordingAbandoned, RecordingResendNeeded, RecordingStored},
    log::v1::MediaJob,
};
use caselock_runtime::trace::{self, TRACEPARENT};

use super::{Job, Outcome, Worker};
use crate::retry::WorkError;

impl Worker {
    /// Event and media job, then the tombstones: while the completion is there, this is repeated.
    pub(super) async fn announce(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let receipt = now.receipt().ok_or_else(|| WorkError::Inconsistent("no receipt".into()))?.payload()?;
        let event = RecordingEvent::Stored(RecordingStored {
            recording_id: job.id.to_string(),
            generation: job.generation(),
            bureau: opened.bureau.to_string(),
            object_key: receipt.object_key,
            version: receipt.version.clone(),
            size: receipt.size,
            blake3: Bytes::copy_from_slice(&receipt.blake3.0),
            stored_at: Some(to_proto(receipt.stored_at)),
            locked_until: Some(to_proto(receipt.locked_until)),
            legal_hold: receipt.legal_hold,
            case_number: opened.metadata.case_number.clone().unwrap_or_default(),
            content_type: opened.metadata.content_type.clone(),
        });
        // Before the job: what media tells comes after.
        self.publish(job, &event, receipt.stored_at).await?;
        let media_job = MediaJob {
            recording_id: job.id.to_string(),
            generation: job.generation(),
            bureau: opened.bureau.to_string(),
            version: receipt.version,
        };
        let partition = partition::of(job.id, self.log.partitions(Topic::MediaJobs));
        let mut record = Record::new(job.id.to_string(), event::media_job(&media_job)).header("cl-schema", "1");
        if let Some(traceparent) = trace::traceparent() {
            record = record.header(TRACEPARENT, traceparent);
        }
        self.log.append(Topic::MediaJobs, partition, record).await?;
        if opened.shape.is_one_segment(receipt.size) {
            // It may be stored by a single call, and claimed as well by another archiver.
            self.abort_claims(job).await?;
        }
        let outcome = self.tidy(job, job.generation(), now.finished_work()).await?;
        self.metrics.stored(&opened.bureau);
        tracing::info!(
            recording = %job.id,
            generation = job.generation(),
            bureau = %opened.bureau,
            content_type = opened.metadata.content_type,
            size = receipt.size,
            segments = opened.shape.segments_of(receipt.size),
            seconds = (self.clock)().duration_since(opened.opened_at).as_secs_f64(),
            stored_at = %receipt.stored_at,
            locked_until = %receipt.locked_until,
            legal_hold = receipt.legal_hold,
            "stored"
        );
        Ok(outcome)
    }

    /// The footage is needed again.
    pub(super) async fn announce_reset(&self, job: &Job) -> Result<Outcome, WorkError> {
        let opened = job.opened()?;
        if let Some((reason, at)) = job.now()?.reset() {
            let event = RecordingEvent::ResendNeeded(RecordingResendNeeded {
                recording_id: job.id.to_string(),
                generation: job.generation(),
                bureau: opened.bureau.to_string(),
                reason: reason.to_owned(),
            });
            self.publish(job, &event, at).await?;
        }
        let mut outcome = Outcome::default();
        for (generation, facts) in job.facts.others() {
            let tidied = self.tidy(job, generation, facts.finished_work()).await?;
            outcome.settled_at = outcome.settled_at.max(tidied.settled_at);
        }
        Ok(outcome)
    }

    /// It was given up.
    pub(super) async fn announce_abandoned(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let (reason, at) = now.abandoned().ok_or_else(|| WorkError::Inconsistent("not abandoned".into()))?;
        let event = RecordingEvent::Abandoned(RecordingAbandoned {
            recording_id: job.id.to_string(),
            generation: job.generation(),
            bureau: opened.bureau.to_string(),
            reason: reason.to_owned(),
        });
        self.publish(job, &event, at).await?;
        let mut subjects = now.finished_work();
        subjects.extend(now.abandon_requested().map(|_| caselock_domain::fact::Subject::AbandonRequested));
        self.tidy(job, job.generation(), subjects).await
    }
}
