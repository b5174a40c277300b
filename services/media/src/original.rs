//! The original, read back whole: into scratch space, digested on the way.

use std::{fs::File, io::Write, path::Path};

use caselock_domain::digest::Blake3;
use caselock_store::{ErrorKind, Store, StoreError};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use sm3::Sm3;

use crate::error::JobError;

/// What was read.
pub struct Original {
    /// A scratch file with the bytes; it has no name, and goes with its handle.
    pub file: File,
    pub size: u64,
    pub blake3: Blake3,
    pub sha256: [u8; 32],
    pub sm3: [u8; 32],
}

struct Reading {
    file: File,
    size: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
    sm3: Sm3,
}

/// That a version is really not there any more, by the list of versions; an error that passes where it is. One answer of a
/// store that recovers is not enough for an alarm that is kept.
pub async fn ensure_gone(store: &dyn Store, key: &str, version: &str) -> Result<(), JobError> {
    match store.versions(key).await?.iter().any(|there| there.id == version) {
        true => Err(StoreError::new(ErrorKind::Unavailable, key, "it is listed, and was not found").into()),
        false => Ok(()),
    }
}

/// Reads a version to its end. A stream that is cut off is an error that passes, not a shorter original; one that is not there
/// has no bytes.
pub async fn read(store: &dyn Store, key: &str, version: &str, scratch: &Path) -> Result<Original, JobError> {
    let mut chunks = match store.read(key, version, 0).await {
        Err(error) if error.kind == ErrorKind::NotFound => {
            ensure_gone(store, key, version).await?;
            stream::empty().boxed()
        }
        chunks => chunks?,
    };
    let mut reading = Reading {
        file: tempfile::tempfile_in(scratch)?,
        size: 0,
        blake3: blake3::Hasher::new(),
        sha256: Sha256::new(),
        sm3: Sm3::new(),
    };
    while let Some(chunk) = chunks.try_next().await? {
        // SM3 is slow: off the async threads.
        let taken = tokio::task::spawn_blocking(move || {
            reading.size += chunk.len() as u64;
            reading.blake3.update(&chunk);
            reading.sha256.update(&chunk);
            reading.sm3.update(&chunk);
            reading.file.write_all(&chunk)?;
            Ok::<_, std::io::Error>(reading)
        });
        reading = taken.await.map_err(std::io::Error::other)??;
    }
    Ok(Original {
        file: reading.file,
        size: reading.size,
        blake3: Blake3(*reading.blake3.finalize().as_bytes()),
        sha256: reading.sha256.finalize().into(),
        sm3: reading.sm3.finalize().into(),
    })
}
