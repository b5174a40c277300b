use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub version: String,
    pub size: u64,
    pub crc64nvme: String,
    pub content_type: String,
    pub lock_until: Timestamp,
    pub legal_hold: bool,
}

/// A multipart upload that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub key: String,
    pub content_type: String,
    pub part_size: u32,
    pub lock_until: Timestamp,
}

/// A part that is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMeta {
    pub crc64nvme: String,
    pub length: u32,
}
