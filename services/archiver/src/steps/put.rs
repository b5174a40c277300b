//! A recording of one segment: one call that never overwrites, with the lock's date in it, and after any doubt a look.

use caselock_domain::{
    digest::{Blake3, SegmentHasher, segment_digest},
    object_key, retention,
    shape::LARGE_SEGMENT,
};
use caselock_store::{Crc64Nvme, ErrorKind, NewObject, StoreError, oldest_version};
use futures::TryStreamExt;

use super::{Job, Outcome, Worker, claim::Found, part::again_if_damaged};
use crate::retry::WorkError;

impl Worker {
    /// Looks whether the recording is there already; if not, stores its only segment, and records that it is complete. Only
    /// what is sealed goes this way: that is never given up.
    pub(super) async fn put(&self, job: &Job) -> Result<Outcome, WorkError> {
        let (opened, now) = (job.opened()?, job.now()?);
        let (Some(segment), Some((sealed, size))) = (&job.segment, now.seal()) else {
            return Err(WorkError::Inconsistent("a single call needs the segment and a seal".into()));
        };
        let bytes = segment.entry.record.payload.clone().unwrap_or_default();
        let digest = segment_digest(0, opened.shape.segment_size, &bytes);
        let Some(digest) = digest.filter(|digest| digest.value == segment.segment.value) else {
            self.dead_letter(&segment.entry, "SEGMENT_CORRUPT").await?;
            return self.doomed(job, "SEGMENT_CORRUPT").await;
        };
        if digest.root != Some(sealed) || bytes.len() as u64 != size {
            return self.doomed(job, "DIGEST_MISMATCH").await;
        }
        match self.find_stored(job).await? {
            Found::Settled(outcome) => return Ok(outcome),
            Found::Object => return self.recognise(job, sealed, size).await,
            Found::Nothing => {}
        }
        let crc = Crc64Nvme::of(&bytes);
        let key = object_key::original(&opened.bureau, job.id, job.generation());
        self.clock_check.pass(&*self.store, &self.clock).await?;
        let new = NewObject {
            content_type: opened.metadata.content_type.clone(),
            part_size: 0,
            // The completion's date is this one, or, around midnight, one day later: then it is set again.
            lock_until: retention::end_of((self.clock)(), &self.floor)?,
        };
        let error = match again_if_damaged(|| self.store.put(&key, &new, bytes.clone(), crc)).await {
            Ok(version) => {
                self.metrics.part(bytes.len() as u32);
                return self.record_completed(job, version, crc).await;
            }
            Err(error) => error,
        };
        if oldest_version(&*self.store, &key).await?.is_some() {
            return self.recognise(job, sealed, size).await;
        }
        // One that exists and is not listed yet will be.
        if error.is_retryable() || error.kind == ErrorKind::AlreadyExists {
            return Err(error.into());
        }
        tracing::error!(%error, recording = %job.id, "a segment can't be stored");
        self.dead_letter(&segment.entry, "SEGMENT_REFUSED_BY_STORE").await?;
        self.doomed(job, "SEGMENT_REFUSED_BY_STORE").await
    }

    /// Records the completion of the object that is there, if it is what was sealed: it is read, and at most one segment.
    pub(super) async fn recognise(&self, job: &Job, sealed: Blake3, size: u64) -> Result<Outcome, WorkError> {
        let key = object_key::original(&job.opened()?.bureau, job.id, job.generation());
        let Some(version) = oldest_version(&*self.store, &key).await? else {
            return Err(WorkError::NotYet(format!("{key} is not readable yet")));
        };
        if version.size == size {
            let (digest, crc) = self.read_digests(&key, &version.id).await?;
            if digest == Some(sealed) {
                return self.record_completed(job, version.id, crc).await;
            }
        }
        self.doomed(job, "OBJECT_UNKNOWN").await
    }

    async fn read_digests(&self, key: &str, version: &str) -> Result<(Option<Blake3>, Crc64Nvme), StoreError> {
        let (mut hasher, mut crc) = (SegmentHasher::new(0, LARGE_SEGMENT), Crc64Nvme::of(b""));
        let mut chunks = self.store.read(key, version, 0).await?;
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
            crc = crc.then(Crc64Nvme::of(&chunk), chunk.len() as u64);
        }
        Ok((hasher.finish().and_then(|digest| digest.root), crc))
    }
}
