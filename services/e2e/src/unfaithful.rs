//! A store that does not do what a store must: it says yes to a hold or a date and forgets it, gives back other bytes than it
//! got, takes no footage, drops unfinished uploads too soon, takes its time with lifting a hold, or fails a check of the probe.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use caselock_domain::time::Timestamp;
use caselock_store::{Crc64Nvme, ErrorKind, KeyPage, Lock, NewObject, Part, Result, Store, StoreError, Version};
use futures::{StreamExt, stream::BoxStream};
use jiff::SignedDuration;
use tokio::sync::watch;

use crate::faulty::is_probe;

/// What it lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It says yes to a hold and forgets it.
    Holds,
    /// It ignores the date that an object is created with; dates are set afterwards only (as Ceph does).
    DatesAtCreation,
    /// It ignores that date as well as those that are set afterwards, and says yes to them.
    Dates,
    /// It fails this check of the probe.
    Check(&'static str),
    /// It gives back other bytes of originals.
    Bytes,
    /// It has lost the originals.
    Originals,
    /// It takes no upload of an original, for good; others it takes.
    Uploads,
    /// It takes no part of an original, and each time says that it may do so later; others it takes.
    Parts,
    /// It changes no lock of a manifest.
    Manifests,
    /// It drops unfinished uploads after a day.
    Expiry,
    /// It lists three keys at a time.
    Pages,
    /// It does not answer who lifts a hold, and lifts it, before it is honest.
    SlowLift,
    /// It says no to who lifts a hold, and lifts it all the same once that is delivered.
    LateLift,
}

/// Lies until it is told to be honest.
pub struct Unfaithful {
    inner: Arc<dyn Store>,
    lie: Lie,
    lying: AtomicBool,
    forgotten: watch::Sender<u32>,
    on_their_way: Mutex<Vec<(String, String)>>,
}

impl Unfaithful {
    pub fn on(inner: Arc<dyn Store>, lie: Lie) -> Arc<Self> {
        let (lying, forgotten) = (AtomicBool::new(true), watch::channel(0).0);
        Arc::new(Self { inner, lie, lying, forgotten, on_their_way: Mutex::default() })
    }

    /// Resolves when so many holds were forgotten, or asked to be lifted.
    pub async fn forgot(&self, count: u32) {
        self.forgotten.subscribe().wait_for(|forgotten| *forgotten >= count).await.unwrap();
    }

    /// Whether the probe's check of this name, which uses `key`, is to fail.
    fn fails(&self, check: &'static str, key: &str) -> bool {
        is_probe(key) && self.lies(Lie::Check(check))
    }

    /// The object as it is really created.
    fn created(&self, key: &str, new: &NewObject) -> NewObject {
        let ignores_dates = self.fails("lock-read-back", key)
            || (!is_probe(key) && (self.lies(Lie::DatesAtCreation) || self.lies(Lie::Dates)));
        let lock_until = if ignores_dates { Timestamp::UNIX_EPOCH } else { new.lock_until };
        NewObject { lock_until, ..new.clone() }
    }

    fn may_change(&self, key: &str) -> Result<()> {
        if self.lies(Lie::Manifests) && key.ends_with("/manifest.json") {
            return Err(StoreError::new(ErrorKind::Invalid, key, "not this one"));
        }
        Ok(())
    }

    fn still_has(&self, key: &str) -> Result<()> {
        if self.lies(Lie::Originals) && key.ends_with("/original") {
            return Err(StoreError::new(ErrorKind::NotFound, key, "it has gone"));
        }
        Ok(())
    }

    fn lies(&self, about: Lie) -> bool {
        self.lie == about && self.lying.load(Ordering::SeqCst)
    }

    /// Keeps to its word from now on.
    pub fn be_honest(&self) {
        self.lying.store(false, Ordering::SeqCst);
        self.forgotten.send_modify(|_| {});
    }

    /// Lifts the holds that it said no to.
    pub async fn deliver(&self) {
        let late = std::mem::take(&mut *self.on_their_way.lock().unwrap());
        for (key, version) in late {
            self.inner.set_hold(&key, &version, false).await.unwrap();
        }
    }
}

#[async_trait]
impl Store for Unfaithful {
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String> {
        if self.lies(Lie::Uploads) && key.ends_with("/original") {
            return Err(StoreError::new(ErrorKind::Invalid, key, "not this one"));
        }
        self.inner.begin(key, &self.created(key, new)).await
    }

    async fn put_part(&self, key: &str, id: &str, number: u32, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        if self.lies(Lie::Parts) && key.ends_with("/original") {
            return Err(StoreError::new(ErrorKind::Unavailable, key, "not now"));
        }
        self.inner.put_part(key, id, number, bytes, crc).await
    }

    async fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<String> {
        self.inner.complete(key, id, parts).await
    }

    async fn abort(&self, key: &str, id: &str) -> Result<()> {
        self.inner.abort(key, id).await
    }

    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let put = self.inner.put(key, &self.created(key, new), bytes, crc).await;
        let taken = match &put {
            Err(error) if error.kind == ErrorKind::AlreadyExists => self.fails("create-only", key),
            Err(error) if error.kind == ErrorKind::ChecksumMismatch => self.fails("checksum", key),
            _ => false,
        };
        if taken { Ok("made-up".into()) } else { put }
    }

    async fn versions(&self, key: &str) -> Result<Vec<Version>> {
        if self.still_has(key).is_err() {
            return Ok(Vec::new());
        }
        self.inner.versions(key).await
    }

    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        let mut page = self.inner.keys(prefix, after).await?;
        if self.lies(Lie::Pages) && page.keys.len() > 3 {
            page.keys.truncate(3);
            page.more = true;
        }
        Ok(page)
    }

    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>> {
        self.inner.checksum(key, version).await
    }

    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.still_has(key)?;
        let chunks = self.inner.read(key, version, from).await?;
        if !self.lies(Lie::Bytes) || !key.ends_with("/original") {
            return Ok(chunks);
        }
        let damage = |chunk: Result<Bytes>| {
            let mut bytes = chunk?.to_vec();
            bytes[0] ^= 1;
            Ok(bytes.into())
        };
        Ok(chunks.map(damage).boxed())
    }

    async fn lock(&self, key: &str, version: &str) -> Result<Lock> {
        self.still_has(key)?;
        self.inner.lock(key, version).await
    }

    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()> {
        if self.fails("lock-read-back", key) || self.fails("shorten", key) {
            return Ok(());
        }
        self.may_change(key)?;
        if self.lies(Lie::Dates) && !is_probe(key) {
            self.forgotten.send_modify(|count| *count += 1);
            return Ok(());
        }
        self.inner.set_retention(key, version, until).await
    }

    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()> {
        if self.fails("hold-read-back", key) {
            return Ok(());
        }
        self.may_change(key)?;
        if self.lies(Lie::Holds) && !is_probe(key) {
            self.forgotten.send_modify(|count| *count += 1);
            return Ok(());
        }
        if !on && !is_probe(key) && (self.lies(Lie::SlowLift) || self.lies(Lie::LateLift)) {
            self.forgotten.send_modify(|count| *count += 1);
            if self.lies(Lie::LateLift) {
                self.on_their_way.lock().unwrap().push((key.to_owned(), version.to_owned()));
                return Err(StoreError::new(ErrorKind::Unavailable, key, "no answer in time"));
            }
            let mut honest = self.forgotten.subscribe();
            honest.wait_for(|_| !self.lies(Lie::SlowLift)).await.unwrap();
        }
        self.inner.set_hold(key, version, on).await
    }

    async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Result<()> {
        if self.fails(if bypass { "bypass" } else { "delete" }, key) {
            return Ok(());
        }
        self.inner.delete_version(key, version, bypass).await
    }

    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>> {
        if self.lies(Lie::Expiry) {
            return Ok(Some(SignedDuration::from_hours(24)));
        }
        self.inner.unfinished_uploads_kept().await
    }

    async fn now(&self) -> Result<Timestamp> {
        let now = self.inner.now().await?;
        Ok(if self.lies(Lie::Check("clock")) { now + SignedDuration::from_secs(90) } else { now })
    }
}
