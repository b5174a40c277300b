//! The claim: the multipart id is a fact before the first part goes out.

use caselock_domain::{
    fact::{Fact, Subject},
    manifest::{self, Manifest},
    object_key,
    receipt::Receipt,
};
use caselock_store::{NewObject, oldest_version, read_document};

use super::{Job, Outcome, Worker};
use crate::retry::WorkError;

impl Worker {
    /// Looks whether the object is there already (its facts may be long forgotten); if not, begins a multipart upload and
    /// records the claim. Whether it counts shows when the fact comes back: the lowest offset wins.
    pub(super) async fn claim(&self, job: &Job) -> Result<Outcome, WorkError> {
        let opened = job.opened()?;
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        if let Some(object) = oldest_version(&*self.store, &key).await? {
            return match self.manifest(job).await? {
                Some(manifest) if manifest.version == object.id => self.find_again(job, &key, &manifest).await,
                // Nobody who follows the facts leaves an object without claim and manifest.
                _ => self.doomed(job, "OBJECT_UNKNOWN").await,
            };
        }
        self.begin(job, &key).await
    }

    /// Begins a multipart upload and records the claim to it.
    pub(super) async fn begin(&self, job: &Job, key: &str) -> Result<Outcome, WorkError> {
        let opened = job.opened()?;
        let new = NewObject {
            content_type: opened.metadata.content_type.clone(),
            part_size: opened.shape.segment_size,
            // The date is set again, by version id, when the object is complete: this one only bridges the gap.
            lock_until: self.floor.from((self.clock)())?,
        };
        let id = self.store.begin(key, &new).await?;
        self.record_now(job, Subject::Claimed(id), Fact::Claimed((self.clock)())).await
    }

    /// The manifest in the store, if there is one.
    pub(super) async fn manifest(&self, job: &Job) -> Result<Option<Manifest>, WorkError> {
        let key = object_key::manifest(&job.opened()?.bureau, job.id, job.generation());
        let Some((_, bytes)) = read_document(&*self.store, &key, manifest::LIMIT).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| WorkError::Inconsistent(format!("{key} is not a manifest: {error}")))?;
        if manifest.recording_id != job.id || manifest.generation != job.generation() {
            return Err(WorkError::Inconsistent(format!("{key} is the manifest of another recording")));
        }
        Ok(Some(manifest))
    }

    /// The recording was stored long ago, and its facts are forgotten: it is answered with its receipt, if its lock still is
    /// what the receipt says.
    async fn find_again(&self, job: &Job, key: &str, manifest: &Manifest) -> Result<Outcome, WorkError> {
        let promised = Receipt::try_from(&manifest.receipt)?.payload()?.locked_until;
        let lock = self.store.lock(key, &manifest.version).await?;
        if lock.until.is_none_or(|until| until < promised) {
            return Err(WorkError::Inconsistent(format!("{key} is locked less than its receipt says: {lock:?}")));
        }
        self.record_receipt(job, manifest).await
    }

    /// Records the receipt that stands in the manifest: the manifest decides which one there is. Its facts are kept from now
    /// on for their time.
    pub(super) async fn record_receipt(&self, job: &Job, manifest: &Manifest) -> Result<Outcome, WorkError> {
        let receipt = Receipt::try_from(&manifest.receipt)?;
        self.record_now(job, Subject::Receipted, Fact::Receipted(Box::new(receipt), (self.clock)())).await
    }
}
