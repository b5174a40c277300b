//! Giving a generation up: the multipart upload is dropped first, and the store must list no object. So the store
//! arbitrates between a completion and this, whoever else is at work.

use caselock_domain::{
    fact::{Fact, FactKey, Subject},
    object_key,
};
use caselock_store::oldest_version;

use super::{Job, Outcome, Worker};
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
            // With the seal and every part the object is recognised, and completed like any other.
            Dropped::Object if self.has_all(job)? => {
                let completed = self.complete(job).await?;
                if completed.doomed.is_none() || reason != "OBJECT_UNKNOWN" {
                    return Ok(completed);
                }
            }
            // What may have been written meanwhile is read first; then the object is known not to be ours, and left.
            Dropped::Object if reason != "OBJECT_UNKNOWN" => return self.doomed(job, "OBJECT_UNKNOWN").await,
            Dropped::Object | Dropped::Clean => {}
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
        let Some((claim, _)) = now.claim() else {
            // It may be stored since long ago, and its facts forgotten.
            if let Some(found) = self.find_stored(job).await?.filter(|found| found.doomed.is_none()) {
                return Ok(Dropped::Claimed(found));
            }
            // Another archiver may be about to claim: ours, once it is in the log before theirs, settles that.
            return Ok(Dropped::Claimed(self.begin(job, &key).await?));
        };
        self.store.abort(&key, claim).await?;
        for loser in now.losing_claims() {
            self.store.abort(&key, loser).await?;
        }
        let object = oldest_version(&*self.store, &key).await?;
        Ok(if object.is_some() { Dropped::Object } else { Dropped::Clean })
    }

    /// Whether the facts are enough to recognise the object by.
    fn has_all(&self, job: &Job) -> Result<bool, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        Ok(now.seal().is_some_and(|(_, size)| now.is_stored_up_to(opened.shape.segments_of(size))))
    }
}
