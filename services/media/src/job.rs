//! One job, from the stored original to the last event. Every part may be repeated; documents decide what there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use caselock_domain::{
    derived::{self, Derived},
    event::RecordingEvent,
    fact::{Fact, FactKey, Subject},
    id::{BureauId, RecordingId},
    manifest::{self, Manifest},
    object_key,
    time::{Clock, Timestamp, whole_seconds},
    verification::{self, Verification},
};
use caselock_log::{Entry, Log, LogError, Topic, append_dead_letter, append_fact, publish};
use caselock_proto::{
    events::v1::{
        Derivative, RecordingDerivationFailed, RecordingDerived, RecordingVerificationFailed, RecordingVerified,
    },
    log::v1::MediaJob,
};
use caselock_runtime::{retry::until_done, trace};
use caselock_store::{ErrorKind, Lock, Store, oldest_version, read_document};
use prost::Message;
use tracing::Span;

use crate::{
    config::MediaConfig,
    derive, documents,
    error::JobError,
    metrics::MediaMetrics,
    original::{self, Original},
};

/// How often this machine may fail a job before others have their turn: scratch space that is too small for this original
/// may do for them.
const MACHINE_FAILURES: u32 = 10;
/// How long the machine rests from it then.
const PAUSE: Duration = Duration::from_secs(60);

/// What jobs work with.
pub struct Jobs {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub config: MediaConfig,
    pub metrics: MediaMetrics,
}

/// A job that was read.
struct Job {
    bureau: BureauId,
    recording: RecordingId,
    generation: u32,
    version: String,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The original is intact, and everything was made that can be made of it.
    Derived,
    /// The original is intact, and nothing could be made of it: a dead letter.
    NotDerived,
    /// The original came back with other bytes, or has gone.
    Mismatch,
    /// It was done before; only telling it may have been cut off.
    Repeated,
    /// It can't be done: a dead letter.
    Impossible,
    /// This machine can't do it: it lies at the topic's end.
    PassedOn,
}

impl Outcome {
    /// Its name, as metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::NotDerived => "not_derived",
            Self::Mismatch => "mismatch",
            Self::Repeated => "repeated",
            Self::Impossible => "impossible",
            Self::PassedOn => "passed_on",
        }
    }
}

impl Jobs {
    /// Does the job of a record, again and again while what it needs is away. Where this machine fails it too often it is put
    /// at the topic's end, so that others have their turn.
    pub async fn run_until_done(&self, entry: &Entry) -> Result<Outcome, JobError> {
        let (failures, tries) = (AtomicU32::new(0), AtomicU32::new(0));
        let run = || async {
            Span::current().record("tries", tries.fetch_add(1, Ordering::Relaxed) + 1);
            match self.run(entry).await {
                Err(JobError::Machine(error)) if failures.fetch_add(1, Ordering::Relaxed) + 1 >= MACHINE_FAILURES => {
                    tracing::error!(%error, offset = entry.offset, "this machine can't do a job: others have their turn");
                    tokio::time::sleep(PAUSE).await;
                    self.log.append(Topic::MediaJobs, entry.partition, entry.record.clone()).await?;
                    Ok(Outcome::PassedOn)
                }
                done => done,
            }
        };
        until_done("media-job", JobError::is_retryable, run).await
    }

    /// Does the job of a record. A job that can't be done becomes a dead letter; an error is one that passes.
    async fn run(&self, entry: &Entry) -> Result<Outcome, JobError> {
        let done = match read_job(entry) {
            Ok(job) => self.work(&job, entry).await,
            Err(error) => Err(error),
        };
        match done {
            Err(JobError::Impossible { reason, detail }) => self.dead_letter(entry, reason, &detail).await?,
            Err(JobError::Store(error)) if !error.is_retryable() => {
                self.dead_letter(entry, "STORE_REFUSED", &error.to_string()).await?;
            }
            done => return done,
        }
        Ok(Outcome::Impossible)
    }

    async fn dead_letter(&self, entry: &Entry, reason: &str, detail: &str) -> Result<(), JobError> {
        tracing::error!(reason, detail, partition = entry.partition, offset = entry.offset, "a dead letter");
        append_dead_letter(&*self.log, Topic::MediaJobs, entry, reason, detail).await?;
        self.metrics.dead_letter(reason);
        Ok(())
    }

    async fn work(&self, job: &Job, entry: &Entry) -> Result<Outcome, JobError> {
        let manifest = self.manifest(job).await?;
        let span = Span::current();
        span.record("bureau", job.bureau.as_str());
        span.record("content_type", manifest.metadata.content_type.as_str());
        span.record("size", manifest.size);
        let verification_key = object_key::verification(&job.bureau, job.recording, job.generation);
        let derived_key = object_key::derived(&job.bureau, job.recording, job.generation);
        let known: Option<Verification> = documents::read(&*self.store, &verification_key).await?;
        let derived: Option<Derived> = documents::read(&*self.store, &derived_key).await?;
        if let (Some(verification), Some(derived)) = (&known, &derived) {
            // Everything was made; only telling it may have been cut off.
            self.tell_verification(job, &manifest, verification).await?;
            self.tell_derived(job, derived).await?;
            return Ok(Outcome::Repeated);
        }
        let lock = self.lock(job, &manifest).await?;
        let scratch = derive::is_derived(&manifest).then(|| self.config.scratch());
        let original = original::read(&*self.store, &manifest.object_key, &job.version, scratch.as_deref()).await?;
        let found = self.compare(job, &manifest, &original);
        let is_intact = found.intact;
        let verification =
            documents::write(&*self.store, &verification_key, verification::MEDIA_TYPE, lock, found).await?;
        self.tell_verification(job, &manifest, &verification).await?;
        self.metrics.verified_bytes.add(original.size, &[]);
        let counter = if is_intact { &self.metrics.verified } else { &self.metrics.mismatches };
        counter.add(1, &[]);
        if !is_intact && verification.intact {
            // It was intact when it was read before; nothing may be derived from what came now.
            alarm(job.recording);
            return Err(JobError::impossible("ORIGINAL_CHANGED", &manifest.object_key));
        }
        if !verification.intact {
            return Ok(Outcome::Mismatch);
        }
        let outcome = derive::derive(&*self.store, &self.config, &manifest, &original, lock).await?;
        if let Some(failure) = &outcome.failure {
            self.dead_letter(entry, failure.reason, &failure.detail).await?;
            self.metrics.failure(failure.reason);
        }
        let derived = Derived {
            media_type: derived::MEDIA_TYPE.into(),
            recording_id: job.recording,
            generation: job.generation,
            original_blake3: manifest.blake3,
            derived_at: whole_seconds((self.clock)()),
            derivatives: outcome.objects,
            failure: outcome.failure.map(|failure| failure.reason.to_owned()),
            probe: outcome.probe,
            warnings: outcome.warnings,
        };
        let derived = documents::write(&*self.store, &derived_key, derived::MEDIA_TYPE, lock, derived).await?;
        if derived.failure.is_none() {
            self.metrics.derived.add(1, &[]);
        }
        self.tell_derived(job, &derived).await?;
        Ok(if derived.failure.is_none() { Outcome::Derived } else { Outcome::NotDerived })
    }

    async fn manifest(&self, job: &Job) -> Result<Manifest, JobError> {
        let key = object_key::manifest(&job.bureau, job.recording, job.generation);
        let document = read_document(&*self.store, &key, manifest::LIMIT).await?;
        let (_, bytes) = document.ok_or_else(|| JobError::impossible("MANIFEST_MISSING", &key))?;
        serde_json::from_slice(&bytes).map_err(|e| JobError::impossible("MANIFEST_UNREADABLE", e))
    }

    /// The lock for what is made of the original: its own, or, where it has gone, that of the manifest which names it.
    async fn lock(&self, job: &Job, manifest: &Manifest) -> Result<Lock, JobError> {
        match self.store.lock(&manifest.object_key, &job.version).await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                original::ensure_gone(&*self.store, &manifest.object_key, &job.version).await?;
                let key = object_key::manifest(&job.bureau, job.recording, job.generation);
                let version = oldest_version(&*self.store, &key).await?;
                let version = version.ok_or_else(|| JobError::impossible("MANIFEST_MISSING", &key))?;
                Ok(self.store.lock(&key, &version.id).await?)
            }
            lock => Ok(lock?),
        }
    }

    fn compare(&self, job: &Job, manifest: &Manifest, original: &Original) -> Verification {
        Verification {
            media_type: verification::MEDIA_TYPE.into(),
            recording_id: job.recording,
            generation: job.generation,
            version: job.version.clone(),
            verified_at: whole_seconds((self.clock)()),
            size: original.size,
            blake3: original.blake3,
            sha256: hex::encode(original.sha256),
            sm3: hex::encode(original.sm3),
            intact: original.size == manifest.size && original.blake3 == manifest.blake3,
        }
    }

    async fn tell_verification(&self, job: &Job, manifest: &Manifest, found: &Verification) -> Result<(), JobError> {
        let (intact, at) = (found.intact, found.verified_at);
        append_fact(&*self.log, &job.key(Subject::Verified), Some(&Fact::Verified(intact, at))).await?;
        let bytes = |digest: &[u8]| Bytes::copy_from_slice(digest);
        let from_hex = |text: &str| Bytes::from(hex::decode(text).unwrap_or_default());
        let event = if intact {
            RecordingEvent::Verified(RecordingVerified {
                recording_id: job.recording.to_string(),
                generation: job.generation,
                bureau: job.bureau.to_string(),
                blake3: bytes(&found.blake3.0),
                sha256: from_hex(&found.sha256),
                sm3: from_hex(&found.sm3),
            })
        } else {
            alarm(job.recording);
            RecordingEvent::VerificationFailed(RecordingVerificationFailed {
                recording_id: job.recording.to_string(),
                generation: job.generation,
                bureau: job.bureau.to_string(),
                expected_blake3: bytes(&manifest.blake3.0),
                actual_blake3: bytes(&found.blake3.0),
            })
        };
        Ok(self.publish(job, &event, at).await?)
    }

    async fn tell_derived(&self, job: &Job, derived: &Derived) -> Result<(), JobError> {
        let fact = Fact::Derived(derived.failure.clone(), derived.derived_at);
        append_fact(&*self.log, &job.key(Subject::Derived), Some(&fact)).await?;
        let (recording_id, bureau) = (job.recording.to_string(), job.bureau.to_string());
        let generation = job.generation;
        let event = match &derived.failure {
            Some(reason) => RecordingEvent::DerivationFailed(RecordingDerivationFailed {
                recording_id,
                generation,
                bureau,
                reason: reason.clone(),
            }),
            None => {
                let derivatives = derived.derivatives.iter().map(|d| Derivative {
                    name: d.name.clone(),
                    object_key: d.object_key.clone(),
                    version: d.version.clone(),
                    blake3: Bytes::copy_from_slice(&d.blake3.0),
                    content_type: d.content_type.clone(),
                });
                let derivatives = derivatives.collect();
                RecordingEvent::Derived(RecordingDerived { recording_id, generation, bureau, derivatives })
            }
        };
        let at = derived.derived_at;
        self.publish(job, &event, at).await?;
        tracing::info!(recording = %job.recording, count = derived.derivatives.len(), failure = ?derived.failure, "derived");
        Ok(())
    }

    async fn publish(&self, job: &Job, event: &RecordingEvent, at: Timestamp) -> Result<(), LogError> {
        publish(&*self.log, event, &job.bureau, job.recording, job.generation, at, trace::traceparent()).await
    }
}

impl Job {
    fn key(&self, subject: Subject) -> FactKey {
        FactKey { recording: self.recording, generation: self.generation, subject }
    }
}

fn alarm(recording: RecordingId) {
    tracing::error!(%recording, "ALARM: the store gave back other bytes than were stored, or none");
}

fn read_job(entry: &Entry) -> Result<Job, JobError> {
    let malformed = |what: &'static str| JobError::impossible("JOB_MALFORMED", what);
    let payload = entry.record.payload.as_deref().unwrap_or_default();
    let job = MediaJob::decode(payload).map_err(|_| malformed("not a MediaJob"))?;
    Ok(Job {
        bureau: job.bureau.parse().map_err(|_| malformed("bureau"))?,
        recording: job.recording_id.parse().map_err(|_| malformed("recording_id"))?,
        generation: job.generation,
        version: job.version,
    })
}
