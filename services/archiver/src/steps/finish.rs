//! The end: lock and hold set, both read back, receipt signed, manifest written and locked, receipt recorded.

use bytes::Bytes;
use caselock_domain::{
    fact::{Completed, Subject},
    manifest::{self, Manifest, Retention},
    object_key,
    receipt::{Envelope, PAYLOAD_TYPE, ReceiptPayload},
};
use caselock_store::{Crc64Nvme, Created, Lock, NewObject, create, ensure_locked};

use super::{Job, Outcome, Worker};
use crate::retry::WorkError;

impl Worker {
    /// Every part of this gives the same bytes when it is repeated: all follows from the completion's fact.
    pub(super) async fn finish(&self, job: &Job) -> Result<Outcome, WorkError> {
        let opened = job.opened()?;
        let completed = job.now()?.completion().ok_or_else(|| WorkError::Inconsistent("not complete".into()))?.clone();
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        let lock = Lock { until: Some(completed.lock_until), hold: completed.legal_hold };
        ensure_locked(&*self.store, &key, &completed.version, lock).await?;

        let manifest = self.write_manifest(job, &key, &completed)?;
        let manifest_key = object_key::manifest(&opened.bureau, job.id, job.generation());
        let new =
            NewObject { content_type: manifest::MEDIA_TYPE.into(), part_size: 0, lock_until: completed.lock_until };
        let bytes: Bytes = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| WorkError::Inconsistent(format!("the manifest can't be written: {error}")))?
            .into();
        let created = create(&*self.store, &manifest_key, &new, bytes).await?;
        ensure_locked(&*self.store, &manifest_key, created.version(), lock).await?;
        let recorded = match created {
            Created::New(_) => self.record_receipt(&manifest).await,
            Created::Existing(_) => {
                // Written before a crash, or by another archiver, perhaps with another key: what stands there counts.
                let there = self.manifest(job, job.generation()).await?;
                let there = there.ok_or_else(|| WorkError::NotYet(format!("{manifest_key} is not readable yet")))?;
                if (there.version != completed.version) || there.blake3 != manifest.blake3 {
                    let detail = format!("{manifest_key} vouches for another object");
                    return Err(WorkError::Inconsistent(detail));
                }
                self.record_receipt(&there).await
            }
        }?;
        if let Some(sealed_at) = job.now()?.sealed_at() {
            self.metrics.receipt((self.clock)().duration_since(sealed_at));
        }
        Ok(recorded)
    }

    fn write_manifest(&self, job: &Job, key: &str, completed: &Completed) -> Result<Manifest, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let (blake3, size) = now.seal().ok_or_else(|| WorkError::Inconsistent("not sealed".into()))?;
        let segments: Vec<_> = now.stored_values().iter().map(|value| hex::encode(value.0)).collect();
        if segments.len() != opened.shape.segments_of(size) as usize {
            return Err(WorkError::Inconsistent("the facts do not say what the object was made of".into()));
        }
        let receipt = self.signing_key.get().sign(&ReceiptPayload {
            media_type: PAYLOAD_TYPE.into(),
            recording_id: job.id,
            generation: job.generation(),
            bureau: opened.bureau.clone(),
            original_name: opened.metadata.original_name.clone(),
            size,
            blake3,
            object_key: key.to_owned(),
            version: completed.version.clone(),
            stored_at: completed.stored_at,
            locked_until: completed.lock_until,
            legal_hold: completed.legal_hold,
        })?;
        Ok(Manifest {
            media_type: manifest::MEDIA_TYPE.into(),
            recording_id: job.id,
            generation: job.generation(),
            bureau: opened.bureau.clone(),
            idempotency_key: opened.key.clone(),
            metadata: opened.metadata.clone(),
            size,
            blake3,
            crc64nvme: Crc64Nvme(completed.crc64nvme).to_string(),
            segment_size: opened.shape.segment_size,
            segments,
            object_key: key.to_owned(),
            version: completed.version.clone(),
            retention: Retention {
                stored_at: completed.stored_at,
                period: self.floor.to_string(),
                time_zone: "Asia/Shanghai".into(),
                locked_until: completed.lock_until,
                legal_hold: completed.legal_hold,
                rule: "Article 15: at least six months, to the end of the day; a legal hold while a case is named"
                    .into(),
            },
            receipt: Envelope::from(&receipt),
        })
    }

    /// Removes every fact of the recording: what is in the store tells the rest.
    pub(super) async fn forget(&self, job: &Job) -> Result<Outcome, WorkError> {
        let mut outcome = Outcome::default();
        let others = job.facts.others().map(|(generation, facts)| (generation, facts.everything()));
        let mut all: Vec<(u32, Vec<Subject>)> = others.collect();
        all.push((job.generation(), job.now()?.everything()));
        for (generation, mut subjects) in all {
            // What says that it is to be forgotten goes when the others have gone: an opening alone would look like a new one.
            let last = subjects.pop().into_iter().collect();
            self.tidy(job, generation, subjects).await?;
            outcome = self.tidy(job, generation, last).await?;
        }
        Ok(outcome)
    }
}
