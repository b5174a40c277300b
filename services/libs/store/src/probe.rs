//! Whether a store keeps its word. Asked at start-up: a store that fails is not used.

use bytes::Bytes;
use caselock_domain::object_key;
use jiff::{SignedDuration, Timestamp};

use crate::{Crc64Nvme, Created, ErrorKind, NewObject, Result, Store, create};

/// How long the probe's own object is locked. It is one object, its lock rolled forward at each start.
const LOCK: SignedDuration = SignedDuration::from_mins(15);
/// The most our clock and the store's may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// What the store does not do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A check failed: the store can't be used.
    #[error("the store fails the check {check}: {found}; it must {expected}")]
    Failed {
        /// The check's name.
        check: &'static str,
        /// What was found.
        found: String,
        /// What the store must do.
        expected: &'static str,
    },
    /// The store could not be asked.
    #[error("the store can't be checked: {0}")]
    Store(#[from] crate::StoreError),
}

impl ProbeError {
    /// Whether asking again may help: the store was away, or did not answer in time.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind == ErrorKind::Unavailable)
    }
}

/// Checks locks, holds, checksums and the clock on an object of the probe's own. `nonce` makes a fresh key for what must
/// not exist yet.
pub async fn probe(store: &dyn Store, now: Timestamp, nonce: &str) -> std::result::Result<(), ProbeError> {
    clocks_agree(store, now).await?;
    let key = object_key::probe("lock");
    let until = caselock_domain::time::whole_seconds(now + LOCK);
    let new = NewObject { content_type: "text/plain".into(), part_size: 0, lock_until: until };
    let body = Bytes::from_static(b"Caselock checks at start-up that this object can't be deleted.\n");
    let version = match create(store, &key, &new, body.clone()).await {
        Ok(Created::New(version) | Created::Existing(version)) => version,
        // Without object lock or versioning a store refuses the lock's headers, or names no version.
        Err(error) if error.kind == ErrorKind::Invalid => {
            let expected = "take an object under lock: make the bucket with object lock, which brings versioning";
            return Err(failed("object-lock", error.to_string(), expected));
        }
        Err(error) => return Err(error.into()),
    };
    if store.lock(&key, &version).await?.until.is_none_or(|date| date < until) {
        store.set_retention(&key, &version, until).await?;
    }
    let lock = store.lock(&key, &version).await?;
    if lock.until.is_none_or(|date| date < until) {
        let found = format!("a lock until {until} was set, {:?} was read back", lock.until);
        return Err(failed("lock-read-back", found, "have object lock enabled, and keep the date it was given"));
    }
    let keep = "refuse to delete a locked version (COMPLIANCE mode)";
    refused("delete", store.delete_version(&key, &version, false).await, ErrorKind::Locked, keep)?;
    refused("bypass", store.delete_version(&key, &version, true).await, ErrorKind::Locked, keep)?;
    let earlier = store.set_retention(&key, &version, until - SignedDuration::from_mins(5)).await;
    refused("shorten", earlier, ErrorKind::Locked, "refuse to shorten a lock")?;
    hold(store, &key, &version).await?;
    let again = store.put(&key, &new, body.clone(), Crc64Nvme::of(&body)).await.map(drop);
    refused("create-only", again, ErrorKind::AlreadyExists, "honour If-None-Match: *")?;
    let wrong = Crc64Nvme(Crc64Nvme::of(&body).0 ^ 1);
    let strange = object_key::probe(&format!("checksum-{nonce}"));
    let put = store.put(&strange, &new, body, wrong).await.map(drop);
    refused("checksum", put, ErrorKind::ChecksumMismatch, "refuse bytes with a wrong CRC-64/NVME")
}

async fn hold(store: &dyn Store, key: &str, version: &str) -> std::result::Result<(), ProbeError> {
    for on in [true, false] {
        store.set_hold(key, version, on).await?;
        if store.lock(key, version).await?.hold != on {
            let found = format!("a hold set to {on} was read back as {}", !on);
            return Err(failed("hold-read-back", found, "keep legal holds"));
        }
    }
    Ok(())
}

/// Checks that the store's clock and ours are at most 60 s apart: a lock's date counts from ours, and the store keeps it by
/// its own.
pub async fn clocks_agree(store: &dyn Store, now: Timestamp) -> std::result::Result<(), ProbeError> {
    let difference = store.now().await?.duration_since(now);
    if difference.abs() > CLOCK_TOLERANCE {
        let side = if difference.is_negative() { "behind" } else { "ahead of" };
        let found = format!("the store's clock is {} s {side} ours", difference.abs().as_secs());
        return Err(failed("clock", found, "agree within 60 s: retention counts from the time of storing"));
    }
    Ok(())
}

fn refused(
    check: &'static str,
    result: Result<()>,
    kind: ErrorKind,
    expected: &'static str,
) -> std::result::Result<(), ProbeError> {
    match result {
        Err(error) if error.kind == kind => Ok(()),
        // The very thing that must not be possible was done.
        Ok(()) => Err(failed(check, "the call succeeded".into(), expected)),
        Err(error) if error.is_retryable() && error.kind != ErrorKind::Denied => Err(error.into()),
        Err(error) => Err(failed(check, error.to_string(), expected)),
    }
}

fn failed(check: &'static str, found: String, expected: &'static str) -> ProbeError {
    ProbeError::Failed { check, found, expected }
}
