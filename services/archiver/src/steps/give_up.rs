//! Giving a generation up: the multipart upload is dropped first, and the store must list no object. So the store
//! arbitrates between a completion and this, whoever else is at work.

use caselock_domain::{
    fact::{Fact, FactKey, Subject},
    object_key,
};
use caselock_store::oldest_version;

use super::{Job, Outcome, Worker, claim::Found};
use crate::retry::WorkError;

enum Dropped {
    /// No upload can complete any more, and there is no object.
    Clean,
    /// There was no claim: one was made, so that there is something to be dropped. Decide again when it is visible.
    Claimed(Outcome),
    /// There is an object: it was completed.
    Object,
}

impl Worker {
    /// Begins the next generation: "send again".
    pub(super) async fn reset(&self, job: &Job, reason: &'static str) -> Result<Outcome, WorkError> {
        match self.drop_uploads(job).await? {
            Dropped::Claimed(outcome) => return Ok(Outcome { doomed: Some(reason), ..outcome }),
            // What is recognised is completed like any other. What is not: what may have been written meanwhile is read first;
            // then the object is known not to be ours, and left.
            Dropped::Object => {
                let adopted = self.adopt(job).await?;
                if adopted.doomed.is_none() {
                    return Ok(adopted);
                }
                if reason != "OBJECT_UNKNOWN" {
                    return Ok(Outcome { doomed: Some("OBJECT_UNKNOWN"), ..adopted });
                }
            }
            Dropped::Clean => {}
        }
        let generation = job.generation() + 1;
        let key = FactKey { recording: job.id, generation, subject: Subject::Reset(reason.to_owned()) };
        let offset = self.record(&key, Some(Fact::Reset((self.clock)()))).await?;
        self.metrics.reset(reason);
        tracing::warn!(recording = %job.id, generation, reason, "send again");
        Ok(Outcome { settled_at: offset + 1, doomed: None })
    }

    /// Gives the upload up.
    pub(super) async fn abandon(&self, job: &Job, reason: &'static str) -> Result<Outcome, WorkError> {
        match self.drop_uploads(job).await? {
            Dropped::Claimed(outcome) => Ok(outcome),
            Dropped::Object => self.doomed(job, "OBJECT_UNKNOWN").await,
            Dropped::Clean => {
                let fact = Fact::Abandoned((self.clock)());
                self.record_now(job, Subject::Abandoned(reason.to_owned()), fact).await
            }
        }
    }

    /// Drops multipart uploads that lost the race for the claim.
    pub(super) async fn drop_losers(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        let mut losers = Vec::new();
        for id in now.losing_claims() {
            self.store.abort(&key, id).await?;
            losers.push(Subject::Claimed(id.to_owned()));
        }
        self.tidy(job, job.generation(), losers).await
    }

    async fn drop_uploads(&self, job: &Job) -> Result<Dropped, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        if now.claim().is_none() {
            // It may be stored since long ago, and its facts forgotten.
            match self.find_stored(job).await? {
                Found::Settled(found) if found.doomed.is_none() => return Ok(Dropped::Claimed(found)),
                Found::Settled(_) | Found::Object | Found::Nothing => {}
            }
            // Another archiver may be about to claim: ours, once it is in the log before theirs, settles that.
            return Ok(Dropped::Claimed(self.begin(job, &key).await?));
        }
        self.abort_claims(job).await?;
        let object = oldest_version(&*self.store, &key).await?;
        Ok(if object.is_some() { Dropped::Object } else { Dropped::Clean })
    }

    /// Records the completion of the object that is there, if the facts are enough to recognise it by: the seal, and a
    /// size of one segment or every part.
    async fn adopt(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        match now.seal() {
            Some((sealed, size)) if opened.shape.is_one_segment(size) => self.recognise(job, sealed, size).await,
            Some((_, size)) if now.is_stored_up_to(opened.shape.segments_of(size)) => self.complete(job).await,
            _ => self.doomed(job, "OBJECT_UNKNOWN").await,
        }
    }
}
