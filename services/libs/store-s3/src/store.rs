use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    operation::head_object::HeadObjectOutput,
    primitives::{ByteStream, DateTime, DateTimeFormat},
    types::{
        ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, LifecycleRule,
        ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use caselock_store::{Crc64Nvme, ErrorKind, KeyPage, Lock, NewObject, Part, Result, Store, StoreError, Version};
use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};

use crate::{
    S3Config,
    client::connect,
    error::{Call, convert},
    lifecycle::{removing, shortest_abort},
};

/// What the keys of all footage begin with.
const FOOTAGE: &str = "v1/";

/// A bucket with versioning and object lock.
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    /// Whether the bytes of an object are in the signature of its request, by a pass of SHA-256 over all of them. Beneath TLS nobody can
    /// change them on their way, and what is damaged shows in the checksum, which is signed in any case.
    signs_bytes: bool,
}

impl S3Store {
    /// Prepares the client; nothing is asked yet.
    pub async fn open(config: &S3Config) -> Arc<Self> {
        let S3Config { bucket, prefix, .. } = config.clone();
        // AWS's own endpoints are behind TLS.
        let signs_bytes = config.endpoint.as_ref().is_some_and(|endpoint| !endpoint.starts_with("https://"));
        Arc::new(Self { client: connect(config).await, bucket, prefix, signs_bytes })
    }

    /// What the bucket calls a key.
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Creates the bucket with object lock, unless it is there. For tests and demonstrations: operators make theirs
    /// themselves.
    pub async fn create_bucket(&self) -> Result<()> {
        self.create(true).await
    }

    /// Creates a bucket that can't hold footage: without object lock. For the tests of what refuses it.
    pub async fn create_bucket_without_lock(&self) -> Result<()> {
        self.create(false).await
    }

    async fn create(&self, lock: bool) -> Result<()> {
        let created =
            self.client.create_bucket().bucket(&self.bucket).object_lock_enabled_for_bucket(lock).send().await;
        match created {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_bucket_already_owned_by_you()) => Ok(()),
            Err(error) => Err(convert(&self.bucket, Call::Plain, error)),
            Ok(_) => Ok(()),
        }
    }

    async fn head(&self, key: &str, version: &str) -> Result<HeadObjectOutput> {
        let head = self.client.head_object().bucket(&self.bucket).key(self.name(key)).version_id(version);
        let head = head.checksum_mode(ChecksumMode::Enabled).send().await;
        head.map_err(|e| convert(key, Call::Plain, e))
    }

    fn no_version(key: &str) -> StoreError {
        StoreError::new(ErrorKind::Invalid, key, "the store names no version: the bucket must have versioning")
    }
}

fn base64(crc: Crc64Nvme) -> String {
    BASE64_STANDARD.encode(crc.0.to_be_bytes())
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_secs(at.as_second())
}

#[async_trait]
impl Store for S3Store {
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.name(key))
            .content_type(&new.content_type)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(date(new.lock_until))
            .send()
            .await
            .map_err(|e| convert(key, Call::Plain, e))?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        id.ok_or_else(|| StoreError::new(ErrorKind::Invalid, key, "the store gave no upload id"))
    }

    async fn put_part(&self, key: &str, id: &str, number: u32, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let put = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.name(key))
            .upload_id(id)
            .part_number(number as i32)
            .checksum_crc64_nvme(base64(crc))
            .body(ByteStream::from(bytes))
            .customize();
        let put = if self.signs_bytes { put } else { put.disable_payload_signing() };
        let put = put.send().await.map_err(|e| convert(key, Call::Multipart, e))?;
        put.e_tag.ok_or_else(|| StoreError::new(ErrorKind::Invalid, key, "the store gave no ETag"))
    }

    async fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<String> {
        let whole = Crc64Nvme::of_parts(parts.iter().map(|part| (part.crc, part.length)));
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number as i32)
                .e_tag(&part.etag)
                .checksum_crc64_nvme(base64(part.crc))
                .build()
        });
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.name(key))
            .upload_id(id)
            .if_none_match("*")
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc64_nvme(base64(whole))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build())
            .send()
            .await
            .map_err(|e| convert(key, Call::Multipart, e))?;
        completed.version_id.ok_or_else(|| Self::no_version(key))
    }

    async fn abort(&self, key: &str, id: &str) -> Result<()> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.name(key)).upload_id(id);
        match abort.send().await.map_err(|e| convert(key, Call::Multipart, e)) {
            Err(error) if error.kind != ErrorKind::MultipartGone => Err(error),
            _ => Ok(()),
        }
    }

    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.name(key))
            .if_none_match("*")
            .content_type(&new.content_type)
            .checksum_crc64_nvme(base64(crc))
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(date(new.lock_until))
            .body(ByteStream::from(bytes))
            .customize();
        let put = if self.signs_bytes { put } else { put.disable_payload_signing() };
        let put = put
            .send()
            .await
            // What it puts need not be there: a 404 without a code of S3's own is a proxy's.
            .map_err(|e| convert(key, Call::Multipart, e))?;
        put.version_id.ok_or_else(|| Self::no_version(key))
    }

    async fn versions(&self, key: &str) -> Result<Vec<Version>> {
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        let (mut next_key, mut next_version) = (None, None);
        let name = self.name(key);
        loop {
            let page = self.client.list_object_versions().bucket(&self.bucket).prefix(&name);
            let page = page.set_key_marker(next_key).set_version_id_marker(next_version);
            let page = page.send().await.map_err(|e| convert(key, Call::Plain, e))?;
            (next_key, next_version) = (page.next_key_marker, page.next_version_id_marker);
            let own = page.versions.unwrap_or_default().into_iter().filter(|v| v.key.as_deref() == Some(&*name));
            versions.extend(own.map(|v| Version {
                id: v.version_id.unwrap_or_default(),
                is_delete_marker: false,
                size: v.size.unwrap_or_default().max(0) as u64,
            }));
            let own = page.delete_markers.unwrap_or_default().into_iter().filter(|m| m.key.as_deref() == Some(&*name));
            markers.extend(own.map(|m| Version {
                id: m.version_id.unwrap_or_default(),
                is_delete_marker: true,
                size: 0,
            }));
            // The key itself sorts before every other key with this prefix.
            if page.is_truncated != Some(true) || next_key.as_deref() != Some(&*name) {
                break;
            }
        }
        // S3 lists the newest first.
        versions.reverse();
        versions.append(&mut markers);
        Ok(versions)
    }

    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        let mut keys = Vec::new();
        let mut marker = (after.map(|after| self.name(after)), None);
        // A page of versions may hold nothing but delete markers, or versions of the key that was last.
        loop {
            let page = self.client.list_object_versions().bucket(&self.bucket).prefix(self.name(prefix));
            let page = page.set_key_marker(marker.0).set_version_id_marker(marker.1);
            let page = page.send().await.map_err(|e| convert(prefix, Call::Plain, e))?;
            let names = page.versions.unwrap_or_default().into_iter().filter_map(|version| version.key);
            keys.extend(names.filter_map(|name| name.strip_prefix(&self.prefix).map(str::to_owned)));
            keys.retain(|key| Some(key.as_str()) > after);
            keys.dedup();
            let more = page.is_truncated == Some(true);
            if !more || !keys.is_empty() {
                return Ok(KeyPage { keys, more });
            }
            if page.next_key_marker.is_none() {
                return Err(StoreError::new(
                    ErrorKind::Invalid,
                    prefix,
                    "the store lists a page without saying what follows",
                ));
            }
            marker = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>> {
        let stored = self.head(key, version).await?.checksum_crc64_nvme;
        let bytes = stored.and_then(|text| BASE64_STANDARD.decode(text).ok());
        Ok(bytes.and_then(|bytes| Some(Crc64Nvme(u64::from_be_bytes(bytes.try_into().ok()?)))))
    }

    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let mut get = self.client.get_object().bucket(&self.bucket).key(self.name(key)).version_id(version);
        if from > 0 {
            get = get.range(format!("bytes={from}-"));
        }
        let body = get.send().await.map_err(|e| convert(key, Call::Plain, e))?.body;
        let state = (body, key.to_owned());
        let chunks = futures::stream::try_unfold(state, |(mut body, key)| async move {
            match body.try_next().await {
                Ok(chunk) => Ok(chunk.map(|chunk| (chunk, (body, key)))),
                Err(error) => Err(StoreError::new(ErrorKind::Unavailable, &key, error)),
            }
        });
        Ok(chunks.boxed())
    }

    async fn lock(&self, key: &str, version: &str) -> Result<Lock> {
        let head = self.head(key, version).await?;
        // GOVERNANCE can be lifted: it is no lock here.
        let until =
            head.object_lock_retain_until_date.filter(|_| head.object_lock_mode == Some(ObjectLockMode::Compliance));
        let until = until.map(|date| Timestamp::from_second(date.secs())).transpose();
        let until = until.map_err(|e| StoreError::new(ErrorKind::Invalid, key, e))?;
        Ok(Lock { until, hold: head.object_lock_legal_hold_status == Some(ObjectLockLegalHoldStatus::On) })
    }

    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()> {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .retain_until_date(date(until))
            .build();
        let put = self.client.put_object_retention().bucket(&self.bucket).key(self.name(key)).version_id(version);
        let put = put.retention(retention);
        let Err(error) = put.clone().send().await else { return Ok(()) };
        let refused = convert(key, Call::Lock, error);
        if refused.kind != ErrorKind::Locked {
            return Err(refused);
        }
        // A GOVERNANCE lock becomes a COMPLIANCE lock only so. It does nothing to COMPLIANCE locks.
        put.bypass_governance_retention(true).send().await.map_err(|_| refused)?;
        Ok(())
    }

    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()> {
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = self.client.put_object_legal_hold().bucket(&self.bucket).key(self.name(key)).version_id(version);
        put.legal_hold(hold).send().await.map_err(|e| convert(key, Call::Plain, e))?;
        Ok(())
    }

    async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Result<()> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(self.name(key)).version_id(version);
        let delete = if bypass { delete.bypass_governance_retention(true) } else { delete };
        delete.send().await.map_err(|e| convert(key, Call::Lock, e))?;
        Ok(())
    }

    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>> {
        Ok(self.lifecycle().await?.and_then(|rules| shortest_abort(&rules, &self.name(FOOTAGE))))
    }

    async fn now(&self) -> Result<Timestamp> {
        let date = ReadDate::default();
        let asked = self.client.head_bucket().bucket(&self.bucket).customize().interceptor(date.clone()).send().await;
        let text = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let parsed = text.and_then(|text| DateTime::from_str(&text, DateTimeFormat::HttpDate).ok());
        let at = parsed.and_then(|date| Timestamp::from_second(date.secs()).ok());
        match (asked, at) {
            (Ok(_), Some(at)) => Ok(at),
            (Ok(_), None) => Err(StoreError::new(ErrorKind::Invalid, &self.bucket, "the store's answer has no Date")),
            // Whoever's clock is 15 minutes from S3's own is refused (RequestTimeTooSkewed), and told what time it is. A refusal shows that clocks
            // differ; that they agree it does not.
            (Err(error), Some(at)) if is_refused(&error) && at.duration_since(Timestamp::now()).abs() > SKEWED => {
                Ok(at)
            }
            (Err(error), _) => Err(convert(&self.bucket, Call::Plain, error)),
        }
    }
}

impl S3Store {
    /// The bucket's lifecycle rules that would remove footage, or hide it, by themselves, by their ids: there must be none. `None` where the store does not
    /// say, or not to these keys.
    pub async fn rules_that_remove(&self) -> Result<Option<Vec<String>>> {
        Ok(self.lifecycle().await?.map(|rules| removing(&rules, &self.name(FOOTAGE))))
    }

    async fn lifecycle(&self) -> Result<Option<Vec<LifecycleRule>>> {
        let asked = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket).send().await;
        match asked {
            Ok(lifecycle) => Ok(Some(lifecycle.rules().to_vec())),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(Some(Vec::new())),
            Err(error) => match convert(&self.bucket, Call::Plain, error) {
                error if error.kind == ErrorKind::Unavailable => Err(error),
                // Not every store knows lifecycles, and not every key may ask.
                error => {
                    tracing::warn!(%error, "the store does not tell its lifecycle rules");
                    Ok(None)
                }
            },
        }
    }
}

/// From what difference of clocks on S3 refuses every call, but for the time that the call was under way.
const SKEWED: SignedDuration = SignedDuration::from_mins(14);

fn is_refused<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|answer| answer.status().as_u16() == 403)
}

/// Notes the `Date` of an answer, which the SDK's outputs leave out.
#[derive(Debug, Clone, Default)]
struct ReadDate(Arc<Mutex<Option<String>>>);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
