//! Ports that let their owner die: at the n-th change of the log or store, before or after it takes effect, every call from
//! then on never returns. So a process can be killed between any two of its steps.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use caselock_domain::time::Timestamp;

use caselock_log::{Follower, Log, LogError, Member, Offset, Record, Topic};
use caselock_store::{Crc64Nvme, KeyPage, Lock, NewObject, Part, Result, Store, Version};
use futures::stream::BoxStream;
use jiff::SignedDuration;
use tokio::sync::watch;

/// Where death comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The change does not happen.
    Before,
    /// The change happens; nobody hears of it.
    After,
}

/// Counts changes, and knows when its owner is dead.
#[derive(Clone)]
pub struct Faults {
    counts_looks: bool,
    left: Arc<AtomicI64>,
    death: Death,
    dead: watch::Sender<bool>,
}

impl Faults {
    /// Death at change number `at`, counted from 0.
    pub fn at(at: i64, death: Death) -> Self {
        Self { counts_looks: false, left: Arc::new(AtomicI64::new(at)), death, dead: watch::channel(false).0 }
    }

    /// Death at call number `at`, of those that change nothing as well: for who only reads.
    pub fn at_call(at: i64) -> Self {
        Self { counts_looks: true, ..Self::at(at, Death::Before) }
    }

    /// Resolves when death has come.
    pub fn died(&self) -> impl Future<Output = ()> + use<> {
        let mut dead = self.dead.subscribe();
        async move {
            if dead.wait_for(|dead| *dead).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub fn log(&self, inner: Arc<dyn Log>) -> Arc<dyn Log> {
        Arc::new(FaultyLog { inner, faults: self.clone() })
    }

    pub fn store(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(FaultyStore { inner, faults: self.clone() })
    }

    /// A call that changes nothing.
    async fn look<T>(&self, call: impl Future<Output = T>) -> T {
        if self.counts_looks {
            return self.change(call).await;
        }
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
        call.await
    }

    /// A call that changes something.
    async fn change<T>(&self, call: impl Future<Output = T>) -> T {
        let last = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        if *self.dead.borrow() || (last && self.death == Death::Before) {
            self.die().await;
        }
        let done = call.await;
        if last {
            self.die().await;
        }
        done
    }

    async fn die(&self) {
        self.dead.send_replace(true);
        std::future::pending::<()>().await;
    }
}

struct FaultyLog {
    inner: Arc<dyn Log>,
    faults: Faults,
}

#[async_trait]
impl Log for FaultyLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn name(&self, topic: Topic) -> String {
        self.inner.name(topic)
    }

    async fn append(&self, topic: Topic, partition: u32, record: Record) -> std::result::Result<Offset, LogError> {
        self.faults.change(self.inner.append(topic, partition, record)).await
    }

    async fn bounds(&self, topic: Topic, partition: u32) -> std::result::Result<Range<Offset>, LogError> {
        self.faults.look(self.inner.bounds(topic, partition)).await
    }

    async fn end(&self, topic: Topic, partition: u32) -> std::result::Result<Offset, LogError> {
        self.faults.look(self.inner.end(topic, partition)).await
    }

    async fn follow(&self, topic: Topic, from: Vec<(u32, Offset)>) -> std::result::Result<Follower, LogError> {
        self.inner.follow(topic, from).await
    }

    async fn join(&self, group: &str, topic: Topic) -> std::result::Result<Member, LogError> {
        self.inner.join(group, topic).await
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> std::result::Result<Option<Offset>, LogError> {
        self.faults.look(self.inner.committed(group, topic, partition)).await
    }

    async fn delete_before(&self, topic: Topic, partition: u32, offset: Offset) -> std::result::Result<(), LogError> {
        self.faults.change(self.inner.delete_before(topic, partition, offset)).await
    }

    async fn check(&self, topic: Topic) -> std::result::Result<(), LogError> {
        self.inner.check(topic).await
    }
}

struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

/// What belongs to the start-up probe is not counted.
pub fn is_probe(key: &str) -> bool {
    key.starts_with("v1/probe/")
}

#[async_trait]
impl Store for FaultyStore {
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String> {
        self.faults.change(self.inner.begin(key, new)).await
    }

    async fn put_part(&self, key: &str, id: &str, number: u32, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        self.faults.change(self.inner.put_part(key, id, number, bytes, crc)).await
    }

    async fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<String> {
        self.faults.change(self.inner.complete(key, id, parts)).await
    }

    async fn abort(&self, key: &str, id: &str) -> Result<()> {
        self.faults.change(self.inner.abort(key, id)).await
    }

    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let put = self.inner.put(key, new, bytes, crc);
        if is_probe(key) { put.await } else { self.faults.change(put).await }
    }

    async fn versions(&self, key: &str) -> Result<Vec<Version>> {
        self.faults.look(self.inner.versions(key)).await
    }

    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        self.faults.look(self.inner.keys(prefix, after)).await
    }

    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>> {
        self.faults.look(self.inner.checksum(key, version)).await
    }

    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.faults.look(self.inner.read(key, version, from)).await
    }

    async fn lock(&self, key: &str, version: &str) -> Result<Lock> {
        self.faults.look(self.inner.lock(key, version)).await
    }

    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()> {
        let set = self.inner.set_retention(key, version, until);
        if is_probe(key) { set.await } else { self.faults.change(set).await }
    }

    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()> {
        let set = self.inner.set_hold(key, version, on);
        if is_probe(key) { set.await } else { self.faults.change(set).await }
    }

    async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Result<()> {
        let deleted = self.inner.delete_version(key, version, bypass);
        if is_probe(key) { deleted.await } else { self.faults.change(deleted).await }
    }

    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>> {
        self.inner.unfinished_uploads_kept().await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }
}
