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
            // Only a completion that is proven keeps the generation; an object that is not ours is left where it is.
            Dropped::Object if reason != "OBJECT_UNKNOWN" => return self.recognise(job, reason).await,
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
            Dropped::Object => Ok(Outcome::doomed("OBJECT_UNKNOWN")),
            Dropped::Clean => {
                let fact = Fact::Abandoned(reason.to_owned(), (self.clock)());
                self.record_now(job, Subject::Abandoned, fact).await
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
            // Another archiver may be about to claim: ours, once it is in the log before theirs, settles that.
            let id = self.begin(job, &key).await?;
            let claimed = self.record_now(job, Subject::Claimed(id), Fact::Claimed((self.clock)())).await?;
            return Ok(Dropped::Claimed(claimed));
        };
        self.store.abort(&key, claim).await?;
        for loser in now.losing_claims() {
            self.store.abort(&key, loser).await?;
        }
        let object = oldest_version(&*self.store, &key).await?;
        Ok(if object.is_some() { Dropped::Object } else { Dropped::Clean })
    }

    /// There is an object where the generation was to be reset. If it is what the facts say, it is completed like any
    /// other; if not, the generation is left to it.
    async fn recognise(&self, job: &Job, reason: &'static str) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let all = now.seal().is_some_and(|(_, size)| now.is_stored_up_to(opened.shape.segments_of(size)));
        tracing::warn!(recording = %job.id, reason, all, "an object is there where none was expected");
        if all { self.complete(job).await } else { Ok(Outcome::doomed("OBJECT_UNKNOWN")) }
    }
}
