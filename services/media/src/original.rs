//! The original, read back whole: digested on the way, and into scratch space where something is to be made of it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use caselock_domain::digest::Blake3;
use caselock_store::{ErrorKind, Store, StoreError};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use sm3::Sm3;
use thread_priority::{
    NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy::Normal, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::{mpsc, oneshot};

use crate::error::JobError;

/// Chunks that may wait to be digested.
const CHUNKS: usize = 4;

/// What was read.
pub struct Original {
    /// A scratch file with the bytes, where one was asked for; it has no name, and goes with its handle.
    pub file: Option<File>,
    pub size: u64,
    pub blake3: Blake3,
    pub sha256: [u8; 32],
    pub sm3: [u8; 32],
}

/// That a version is really not there any more, by the list of versions; an error that passes where it is. One answer of a
/// store that recovers is not enough for an alarm that is kept.
pub async fn ensure_gone(store: &dyn Store, key: &str, version: &str) -> Result<(), JobError> {
    match store.versions(key).await?.iter().any(|there| there.id == version) {
        true => Err(StoreError::new(ErrorKind::Unavailable, key, "it is listed, and was not found").into()),
        false => Ok(()),
    }
}

/// Reads a version to its end, into scratch space where something is to be made of it. A stream that is cut off is an error that
/// passes, not a shorter original; one that is not there has no bytes.
pub async fn read(store: &dyn Store, key: &str, version: &str, scratch: Option<&Path>) -> Result<Original, JobError> {
    let mut chunks = match store.read(key, version, 0).await {
        Err(error) if error.kind == ErrorKind::NotFound => {
            ensure_gone(store, key, version).await?;
            stream::empty().boxed()
        }
        chunks => chunks?,
    };
    let file = scratch.map(tempfile::tempfile_in).transpose()?;
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let (done, digested) = oneshot::channel();
    std::thread::Builder::new().name("media-digest".into()).spawn(move || {
        // Whoever asked may be gone.
        let _ = done.send(digest(receiver, file));
    })?;
    while let Some(chunk) = chunks.try_next().await? {
        if sender.send(chunk).await.is_err() {
            // It says itself why.
            break;
        }
    }
    drop(sender);
    Ok(digested.await.map_err(io::Error::other)??)
}

/// Digests what comes. SM3 alone takes more processor time than all of an upload: what is waited for goes first. A thread of Linux's
/// idle class (sched(7)) has what no other wants, and next to nothing of a processor that others want.
fn digest(mut chunks: mpsc::Receiver<Bytes>, mut file: Option<File>) -> io::Result<Original> {
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, Normal(Idle)) {
        tracing::debug!(%error, "the digests could not be put behind what else is done here");
    }
    let (mut size, mut blake3, mut sha256, mut sm3) = (0, blake3::Hasher::new(), Sha256::new(), Sm3::new());
    while let Some(chunk) = chunks.blocking_recv() {
        size += chunk.len() as u64;
        blake3.update(&chunk);
        sha256.update(&chunk);
        sm3.update(&chunk);
        if let Some(file) = &mut file {
            file.write_all(&chunk)?;
        }
    }
    let blake3 = Blake3(*blake3.finalize().as_bytes());
    Ok(Original { file, size, blake3, sha256: sha256.finalize().into(), sm3: sm3.finalize().into() })
}
