//! The claim: the multipart id is a fact before the first part goes out.

use std::collections::BTreeSet;

use caselock_domain::{
    fact::{Fact, FactKey, Subject},
    manifest::{self, Manifest},
    object_key,
    receipt::{Receipt, ReceiptPayload},
    retention,
};
use caselock_store::{ErrorKind, Lock, NewObject, ensure_locked, oldest_version, read_document};

use super::{Job, Outcome, Worker};
use crate::retry::WorkError;

/// What the store has of a recording.
pub(super) enum Found {
    /// Nothing that matters.
    Nothing,
    /// An object of this generation, for which no manifest vouches.
    Object,
    /// This much was to be done about it, and was done.
    Settled(Outcome),
}

impl Worker {
    /// Looks whether the recording is there already (its facts may be long forgotten); if not, begins a multipart upload and
    /// records the claim. Whether it counts shows when the fact comes back: the lowest offset wins.
    pub(super) async fn claim(&self, job: &Job) -> Result<Outcome, WorkError> {
        match self.find_stored(job).await? {
            Found::Settled(outcome) => return Ok(outcome),
            // Nobody who follows the facts leaves an object without a claim, unless it is of one segment and sealed.
            Found::Object => return self.doomed(job, "OBJECT_UNKNOWN").await,
            Found::Nothing => {}
        }
        let key = object_key::original(&job.opened()?.bureau, job.id, job.generation());
        self.begin(job, &key).await
    }

    /// Whether the store has the recording, in whichever generation: then the receipt is recorded, or, where what lies there
    /// is none that an archiver wrote, this generation given up.
    pub(super) async fn find_stored(&self, job: &Job) -> Result<Found, WorkError> {
        let bureau = &job.opened()?.bureau;
        let keys = self.keys(&object_key::recording(bureau, job.id)).await?;
        // What was disposed of may not be deleted yet, and vouches for nothing.
        let is_disposed = |generation: &u32| {
            job.facts.is_disposed(*generation)
                || keys.iter().any(|key| object_key::disposed_generation(key) == Some(*generation))
        };
        let generations: BTreeSet<_> = keys
            .iter()
            .filter_map(|key| object_key::manifest_generation(key))
            .filter(|generation| !is_disposed(generation))
            .collect();
        // The newest generation that was stored counts, whichever one this is.
        for generation in generations.iter().rev() {
            match self.manifest(job, *generation).await {
                Ok(Some(manifest)) => {
                    if let Some(promised) = self.promised(&manifest).await? {
                        return self.find_again(&manifest, &promised).await.map(Found::Settled);
                    }
                }
                Ok(None) | Err(WorkError::Inconsistent(_)) => {}
                Err(WorkError::Store(error)) if error.kind == ErrorKind::Invalid => {}
                Err(error) => return Err(error),
            }
            tracing::error!(recording = %job.id, generation, "a manifest vouches for no object");
        }
        let disposed = keys.iter().filter_map(|key| object_key::disposed_generation(key)).max();
        if disposed.is_some_and(|disposed| disposed >= job.generation()) {
            // It was disposed of so long ago that the facts are forgotten: no generation is used twice.
            return self.doomed(job, "DISPOSED").await.map(Found::Settled);
        }
        if generations.contains(&job.generation()) {
            // Nobody who follows the facts leaves a manifest without its object.
            return self.doomed(job, "OBJECT_UNKNOWN").await.map(Found::Settled);
        }
        let key = object_key::original(bureau, job.id, job.generation());
        Ok(if keys.contains(&key) { Found::Object } else { Found::Nothing })
    }

    /// Every key that begins so.
    async fn keys(&self, prefix: &str) -> Result<BTreeSet<String>, WorkError> {
        let mut keys = BTreeSet::new();
        loop {
            let page = self.store.keys(prefix, keys.last().map(String::as_str)).await?;
            keys.extend(page.keys);
            if !page.more {
                return Ok(keys);
            }
        }
    }

    /// Begins a multipart upload and records the claim to it.
    pub(super) async fn begin(&self, job: &Job, key: &str) -> Result<Outcome, WorkError> {
        let opened = job.opened()?;
        // Some stores keep the date that is given here.
        self.clock_check.pass(&*self.store, &self.clock).await?;
        let new = NewObject {
            content_type: opened.metadata.content_type.clone(),
            part_size: opened.shape.segment_size,
            // The date is set again, by version id, when the object is complete: this one only bridges the gap.
            lock_until: retention::end_of((self.clock)(), &self.floor)?,
        };
        let id = self.store.begin(key, &new).await?;
        self.record_now(job, Subject::Claimed(id), Fact::Claimed((self.clock)())).await
    }

    /// The manifest in the store, if there is one.
    pub(super) async fn manifest(&self, job: &Job, generation: u32) -> Result<Option<Manifest>, WorkError> {
        let key = object_key::manifest(&job.opened()?.bureau, job.id, generation);
        let Some((_, bytes)) = read_document(&*self.store, &key, manifest::LIMIT).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| WorkError::Inconsistent(format!("{key} is not a manifest: {error}")))?;
        let original = object_key::original(&manifest.bureau, manifest.recording_id, manifest.generation);
        if manifest.recording_id != job.id || manifest.generation != generation || manifest.object_key != original {
            return Err(WorkError::Inconsistent(format!("{key} is the manifest of another recording")));
        }
        Ok(Some(manifest))
    }

    /// What the receipt of a manifest promises, if it can be read and its object is there.
    async fn promised(&self, manifest: &Manifest) -> Result<Option<ReceiptPayload>, WorkError> {
        let receipt = Receipt::try_from(&manifest.receipt).and_then(|receipt| receipt.payload());
        let object = oldest_version(&*self.store, &manifest.object_key).await?;
        Ok(receipt.ok().filter(|_| object.is_some_and(|object| object.id == manifest.version)))
    }

    /// The recording was stored long ago, and its facts are forgotten: it is answered with its receipt, once its lock is
    /// known to be still what the receipt says.
    async fn find_again(&self, manifest: &Manifest, promised: &ReceiptPayload) -> Result<Outcome, WorkError> {
        let lock = Lock { until: Some(promised.locked_until), hold: false };
        ensure_locked(&*self.store, &manifest.object_key, &manifest.version, lock).await?;
        self.record_receipt(manifest).await
    }

    /// Records the receipt that stands in the manifest: the manifest decides which one there is. Its facts are kept from now
    /// on for their time.
    pub(super) async fn record_receipt(&self, manifest: &Manifest) -> Result<Outcome, WorkError> {
        let receipt = Receipt::try_from(&manifest.receipt)?;
        let key =
            FactKey { recording: manifest.recording_id, generation: manifest.generation, subject: Subject::Receipted };
        let fact = Fact::Receipted(Box::new(receipt), (self.clock)());
        let offset = self.record(&key, Some(fact)).await?;
        Ok(Outcome { settled_at: offset + 1, doomed: None })
    }
}
