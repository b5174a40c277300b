//! How long calls of a store take, and how they end.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use opentelemetry::{KeyValue, global, metrics::Histogram};

use crate::{Crc64Nvme, KeyPage, Lock, NewObject, Part, Result, Store, Version, create::lock_not_read_back};

/// The bounds of `caselock_store_call_seconds`.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// A store whose calls are measured: `caselock_store_call_seconds`, by operation and outcome (`ok`, or the kind of the error). Of a read
/// it is the time until bytes may come.
pub struct Metered {
    inner: Arc<dyn Store>,
    seconds: Histogram<f64>,
}

impl Metered {
    /// Measures the calls of a store.
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        lock_not_read_back().add(0, &[]);
        let meter = global::meter("caselock-store");
        let seconds = meter.f64_histogram("caselock_store_call_seconds").with_boundaries(BOUNDS.to_vec());
        Arc::new(Self { inner, seconds: seconds.build() })
    }

    async fn measure<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let done = call.await;
        let outcome = done.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok");
        let labels = [KeyValue::new("operation", operation), KeyValue::new("outcome", outcome)];
        self.seconds.record(begun.elapsed().as_secs_f64(), &labels);
        done
    }
}

#[async_trait]
impl Store for Metered {
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String> {
        self.measure("begin", self.inner.begin(key, new)).await
    }

    async fn put_part(
        &self,
        key: &str,
        multipart_id: &str,
        number: u32,
        bytes: Bytes,
        crc: Crc64Nvme,
    ) -> Result<String> {
        self.measure("put_part", self.inner.put_part(key, multipart_id, number, bytes, crc)).await
    }

    async fn complete(&self, key: &str, multipart_id: &str, parts: &[Part]) -> Result<String> {
        self.measure("complete", self.inner.complete(key, multipart_id, parts)).await
    }

    async fn abort(&self, key: &str, multipart_id: &str) -> Result<()> {
        self.measure("abort", self.inner.abort(key, multipart_id)).await
    }

    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        self.measure("put", self.inner.put(key, new, bytes, crc)).await
    }

    async fn versions(&self, key: &str) -> Result<Vec<Version>> {
        self.measure("versions", self.inner.versions(key)).await
    }

    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        self.measure("keys", self.inner.keys(prefix, after)).await
    }

    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>> {
        self.measure("checksum", self.inner.checksum(key, version)).await
    }

    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.measure("read", self.inner.read(key, version, from)).await
    }

    async fn lock(&self, key: &str, version: &str) -> Result<Lock> {
        self.measure("lock", self.inner.lock(key, version)).await
    }

    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()> {
        self.measure("set_retention", self.inner.set_retention(key, version, until)).await
    }

    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()> {
        self.measure("set_hold", self.inner.set_hold(key, version, on)).await
    }

    async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Result<()> {
        self.measure("delete_version", self.inner.delete_version(key, version, bypass)).await
    }

    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>> {
        self.measure("unfinished_uploads_kept", self.inner.unfinished_uploads_kept()).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.measure("now", self.inner.now()).await
    }
}
