//! The store: where recordings lie under object lock.
//!
//! [`Store`] is the port. [`fs::FsStore`] keeps objects in a directory and enforces the same lock rules; the S3 adapter is a
//! crate of its own. Every adapter passes [`contract`]. [`probe`] finds out at start-up whether a store keeps its word.

mod crc;
mod create;
mod error;
mod metered;

pub mod contract;
pub mod fs;
pub mod probe;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

pub use crc::Crc64Nvme;
pub use create::{Created, PART, create, create_from, create_locked, ensure_locked, oldest_version, read_document};
pub use error::{ErrorKind, StoreError};
pub use metered::Metered;

/// The result of a call to the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Versioned objects under object lock, in COMPLIANCE mode: no date is ever shortened, no locked version deleted.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Begins a multipart upload. The lock's date, if the store honours it at creation, is that of `new`.
    async fn begin(&self, key: &str, new: &NewObject) -> Result<String>;

    /// Stores part `number` (from 1) and returns its ETag. The store verifies the checksum. Repeating it replaces the part.
    async fn put_part(
        &self,
        key: &str,
        multipart_id: &str,
        number: u32,
        bytes: Bytes,
        crc: Crc64Nvme,
    ) -> Result<String>;

    /// Makes one object of the parts, in order, and returns its version id. The store verifies the checksum of the whole
    /// where it can. [`ErrorKind::AlreadyExists`] where the key has a current version; [`ErrorKind::MultipartGone`] where
    /// the upload or a part is not there.
    async fn complete(&self, key: &str, multipart_id: &str, parts: &[Part]) -> Result<String>;

    /// Drops a multipart upload and its parts. After this no [`complete`](Self::complete) of it succeeds. One that is not
    /// there is no error.
    async fn abort(&self, key: &str, multipart_id: &str) -> Result<()>;

    /// Creates an object in one call and returns its version id. The store verifies the checksum.
    /// [`ErrorKind::AlreadyExists`] where the key has a current version. See [`create()`] for what also looks behind delete
    /// markers.
    async fn put(&self, key: &str, new: &NewObject, bytes: Bytes, crc: Crc64Nvme) -> Result<String>;

    /// Every version of a key: those with data, the oldest first, then the delete markers.
    async fn versions(&self, key: &str) -> Result<Vec<Version>>;

    /// Keys that begin with `prefix` and come after `after`, in order, a page at a time. A key counts as long as it has a
    /// version with data, hidden by a delete marker or not.
    async fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage>;

    /// The checksum of a version as the store keeps it; `None` where it keeps none of this kind.
    async fn checksum(&self, key: &str, version: &str) -> Result<Option<Crc64Nvme>>;

    /// Reads a version, from the byte `from` on.
    async fn read(&self, key: &str, version: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// The lock of a version, as the store says it now.
    async fn lock(&self, key: &str, version: &str) -> Result<Lock>;

    /// Sets the date until which a version is locked. [`ErrorKind::Locked`] where it would be shortened.
    async fn set_retention(&self, key: &str, version: &str, until: Timestamp) -> Result<()>;

    /// Sets or lifts a version's legal hold.
    async fn set_hold(&self, key: &str, version: &str, on: bool) -> Result<()>;

    /// Deletes a version for good. [`ErrorKind::Locked`] while it is locked or held, `bypass` or not.
    async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Result<()>;

    /// How long the store keeps a multipart upload that is not completed, where that can be asked. `None` where it can't, or
    /// where there is no limit.
    async fn unfinished_uploads_kept(&self) -> Result<Option<SignedDuration>>;

    /// The store's clock.
    async fn now(&self) -> Result<Timestamp>;
}

/// An object to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Its media type.
    pub content_type: String,
    /// The length of every part but the last, for multipart uploads.
    pub part_size: u32,
    /// Until when it is locked from its creation on.
    pub lock_until: Timestamp,
}

/// A part to be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// The ETag that [`Store::put_part`] returned.
    pub etag: String,
    /// Its checksum.
    pub crc: Crc64Nvme,
    /// Its length in bytes.
    pub length: u32,
}

/// Some keys, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// At most 10,000. S3 names 1,000 at once; a directory, whose folders are read whole for each page, names more.
    pub keys: Vec<String>,
    /// Whether others may follow: then there is a last key here, and the next page begins after it.
    pub more: bool,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: String,
    /// Whether it is a delete marker: no data, it only hides what is older.
    pub is_delete_marker: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// What protects a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The date of the COMPLIANCE lock.
    pub until: Option<Timestamp>,
    /// Whether a legal hold is on.
    pub hold: bool,
}
