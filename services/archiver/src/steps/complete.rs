//! The object: one call that never overwrites, and after any doubt a look.

use caselock_domain::{
    digest,
    fact::{Completed, Fact, Subject},
    object_key, retention,
    time::whole_seconds,
};
use caselock_store::{Crc64Nvme, ErrorKind, Part, oldest_version};
use futures::TryStreamExt;

use super::{Job, Outcome, Worker};
use crate::retry::WorkError;

/// What lies under a key.
enum Look {
    Nothing,
    /// The object that was to be made; its version.
    Same(String),
    /// Something else.
    Other,
}

impl Worker {
    /// Makes one object of the parts and records that it is complete. The list of parts, the whole digest and the whole
    /// checksum come from the facts of the parts only.
    pub(super) async fn complete(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let (Some((claim, _)), Some((sealed, size))) = (now.claim(), now.seal()) else {
            return Err(WorkError::Inconsistent("a completion needs a claim and a seal".into()));
        };
        let values: Vec<_> = now.parts().map(|(_, value, _)| *value).collect();
        let root = now.parts().find_map(|(_, _, part)| part.root);
        let stored: u64 = now.parts().map(|(_, _, part)| u64::from(part.length)).sum();
        if digest::merge(&values, root) != Some(sealed) || stored != size {
            return self.doomed(job, "DIGEST_MISMATCH").await;
        }
        if now.parts().any(|(_, _, part)| part.multipart_id != claim) {
            return self.doomed(job, "PARTS_OF_ANOTHER_CLAIM").await;
        }
        let parts: Vec<Part> = now
            .parts()
            .map(|(index, _, part)| Part {
                number: index + 1,
                etag: part.etag.clone(),
                crc: Crc64Nvme(part.crc64nvme),
                length: part.length,
            })
            .collect();
        let crc = Crc64Nvme::of_parts(parts.iter().map(|part| (part.crc, part.length)));
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        if opened.shape.is_one_segment(size) && oldest_version(&*self.store, &key).await?.is_some() {
            // Stored by a single call: this upload is left.
            self.store.abort(&key, claim).await?;
            return self.recognise(job, sealed, size).await;
        }
        self.clock_check.pass(&*self.store, &self.clock).await?;
        let version = match self.store.complete(&key, claim, &parts).await {
            Ok(version) => version,
            Err(error) => match self.look(&key, size, crc).await? {
                Look::Same(version) => version,
                Look::Other => return self.doomed(job, "OBJECT_UNKNOWN").await,
                Look::Nothing if error.kind == ErrorKind::MultipartGone => {
                    return self.doomed(job, "MULTIPART_GONE").await;
                }
                Look::Nothing => return Err(error.into()),
            },
        };
        self.record_completed(job, version, crc).await
    }

    /// Records that the object is there: its lock's date counts from now.
    pub(super) async fn record_completed(
        &self,
        job: &Job,
        version: String,
        crc: Crc64Nvme,
    ) -> Result<Outcome, WorkError> {
        let stored_at = whole_seconds((self.clock)());
        let completed = Completed {
            version,
            stored_at,
            lock_until: retention::end_of(stored_at, &self.floor)?,
            legal_hold: job.opened()?.metadata.case_number.is_some(),
            crc64nvme: crc.0,
        };
        self.record_now(job, Subject::Completed((self.nonce)()), Fact::Completed(completed)).await
    }

    /// What lies under the key.
    async fn look(&self, key: &str, size: u64, crc: Crc64Nvme) -> Result<Look, WorkError> {
        let Some(version) = oldest_version(&*self.store, key).await? else { return Ok(Look::Nothing) };
        let same = version.size == size
            && match self.store.checksum(key, &version.id).await? {
                Some(stored) => stored == crc,
                None => self.read_crc(key, &version.id).await? == crc,
            };
        Ok(if same { Look::Same(version.id) } else { Look::Other })
    }

    /// The checksum of what the store gives back, where it keeps none.
    async fn read_crc(&self, key: &str, version: &str) -> Result<Crc64Nvme, WorkError> {
        let mut chunks = self.store.read(key, version, 0).await?;
        let mut crc = Crc64Nvme::of(b"");
        while let Some(chunk) = chunks.try_next().await? {
            crc = crc.then(Crc64Nvme::of(&chunk), chunk.len() as u64);
        }
        Ok(crc)
    }
}
