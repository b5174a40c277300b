//! Facts about recordings, as records of `caselock.uploads.v1`.
//!
//! No key is ever written with two meanings, so compaction can't change the outcome: where two processes may write
//! different things (an opening, a claim, a completion), the key carries what tells them apart, and the lowest offset
//! counts.

use bytes::Bytes;
use caselock_proto::log::v1 as proto;
use jiff::Timestamp;
use prost::Message;

use crate::{
    digest::{Blake3, SegmentValue},
    id::{BureauId, IdempotencyKey, RecordingId},
    metadata::Metadata,
    receipt::Receipt,
    shape::Shape,
    time,
};

/// A random value that makes a key unique to its writer's attempt.
pub type Nonce = [u8; 16];

/// The key of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// The recording.
    pub recording: RecordingId,
    /// The generation.
    pub generation: u32,
    /// What kind of fact, with what tells facts of the kind apart.
    pub subject: Subject,
}

/// The kind of a fact and its discriminator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One attempt to open.
    Opened(Nonce),
    /// A segment of this index and value is in the log.
    Acknowledged(u32, SegmentValue),
    /// A multipart upload of this id was begun.
    Claimed(String),
    /// A segment of this index and value is a part in the store.
    PartStored(u32, SegmentValue),
    /// The client named this digest.
    Sealed(Blake3),
    /// This generation began because footage must be sent again, for this reason.
    Reset(String),
    /// The client asks to give up.
    AbandonRequested,
    /// Given up, for this reason.
    Abandoned(String),
    /// One attempt to record that the object is complete.
    Completed(Nonce),
    /// The receipt.
    Receipted,
    /// Read back whole.
    Verified,
    /// Derivatives.
    Derived,
    /// One attempt to announce.
    Announced(Nonce),
    /// The stored generation was disposed of.
    Disposed,
}

/// A fact's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An upload was opened.
    Opened(Box<Opened>),
    /// A segment is durable in the log.
    Acknowledged(Acknowledged),
    /// A multipart upload was begun, at this time.
    Claimed(Timestamp),
    /// A segment is a part in the store.
    PartStored(PartStored),
    /// The client named this size.
    Sealed(u64, Option<Timestamp>),
    /// The footage must be sent again; since when.
    Reset(Timestamp),
    /// The client asks to give up; since when.
    AbandonRequested(Timestamp),
    /// Given up; since when.
    Abandoned(Timestamp),
    /// The object is complete.
    Completed(Completed),
    /// The receipt as it stands in the manifest, and when that was recorded.
    Receipted(Box<Receipt>, Timestamp),
    /// Read back whole; whether it was intact.
    Verified(bool, Timestamp),
    /// Derivatives were made; or why not.
    Derived(Option<String>, Timestamp),
    /// A device holds the recording.
    Announced(Box<Announced>),
    /// The generation was disposed of.
    Disposed(Disposed),
}

/// A recording as it was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The bureau.
    pub bureau: BureauId,
    /// The idempotency key.
    pub key: IdempotencyKey,
    /// The metadata.
    pub metadata: Metadata,
    /// When.
    pub announced_at: Timestamp,
}

/// A generation that was disposed of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposed {
    /// The bureau.
    pub bureau: BureauId,
    /// When that was decided for good.
    pub disposed_at: Timestamp,
}

/// An upload as it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bureau.
    pub bureau: BureauId,
    /// The idempotency key.
    pub key: IdempotencyKey,
    /// The metadata.
    pub metadata: Metadata,
    /// The cut, with the declared size.
    pub shape: Shape,
    /// When.
    pub opened_at: Timestamp,
}

/// A segment in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its length in bytes.
    pub length: u32,
    /// Its offset in the footage partition.
    pub footage_offset: u64,
    /// For segment 0: its root-finalised hash.
    pub root: Option<Blake3>,
    /// When, by the gateway's clock, where it is said: for measuring only.
    pub at: Option<Timestamp>,
}

/// A part in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartStored {
    /// Its length in bytes.
    pub length: u32,
    /// The store's ETag.
    pub etag: String,
    /// Its CRC-64/NVME.
    pub crc64nvme: u64,
    /// The multipart upload it belongs to.
    pub multipart_id: String,
    /// For segment 0: its root-finalised hash.
    pub root: Option<Blake3>,
}

/// A complete object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Its version id.
    pub version: String,
    /// The moment the floor counts from.
    pub stored_at: Timestamp,
    /// The date the lock is set to.
    pub lock_until: Timestamp,
    /// Whether a legal hold is set.
    pub legal_hold: bool,
    /// The full object's CRC-64/NVME.
    pub crc64nvme: u64,
}

/// Why a record is not a fact this version can read.
#[derive(Debug, thiserror::Error)]
#[error("not a fact: {0}")]
pub struct FactError(pub &'static str);

impl FactKey {
    /// The record's key: id, generation, kind, discriminator. Fixed for ever: compaction compares these bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(self.recording.as_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        let segment = |index: &u32, value: &SegmentValue| [&index.to_be_bytes()[..], &value.0[..]].concat();
        let (kind, discriminator) = match &self.subject {
            Subject::Opened(nonce) => (1, nonce.to_vec()),
            Subject::Acknowledged(index, value) => (2, segment(index, value)),
            Subject::Claimed(id) => (3, id.as_bytes().to_vec()),
            Subject::PartStored(index, value) => (4, segment(index, value)),
            Subject::Sealed(digest) => (5, digest.0.to_vec()),
            Subject::Reset(reason) => (6, reason.as_bytes().to_vec()),
            Subject::AbandonRequested => (7, Vec::new()),
            Subject::Abandoned(reason) => (8, reason.as_bytes().to_vec()),
            Subject::Completed(nonce) => (9, nonce.to_vec()),
            Subject::Receipted => (10, Vec::new()),
            Subject::Verified => (11, Vec::new()),
            Subject::Derived => (12, Vec::new()),
            Subject::Announced(nonce) => (13, nonce.to_vec()),
            Subject::Disposed => (14, Vec::new()),
        };
        out.push(kind);
        out.extend_from_slice(&discriminator);
        out.into()
    }

    /// Reads a record's key.
    pub fn decode(bytes: &[u8]) -> Result<Self, FactError> {
        let error = FactError("the key is malformed");
        let (id, rest) = bytes.split_first_chunk::<16>().ok_or(FactError("the key is too short"))?;
        let (generation, rest) = rest.split_first_chunk::<4>().ok_or(FactError("the key is too short"))?;
        let (kind, rest) = rest.split_first().ok_or(FactError("the key is too short"))?;
        let nonce = || Nonce::try_from(rest).ok();
        let text = || String::from_utf8(rest.to_vec()).ok();
        let segment = || {
            let (index, value) = rest.split_first_chunk::<4>()?;
            Some((u32::from_be_bytes(*index), SegmentValue(value.try_into().ok()?)))
        };
        let subject = match kind {
            1 => nonce().map(Subject::Opened),
            2 => segment().map(|(i, v)| Subject::Acknowledged(i, v)),
            3 => text().map(Subject::Claimed),
            4 => segment().map(|(i, v)| Subject::PartStored(i, v)),
            5 => rest.try_into().ok().map(|d| Subject::Sealed(Blake3(d))),
            6 => text().map(Subject::Reset),
            7 => Some(Subject::AbandonRequested),
            8 => text().map(Subject::Abandoned),
            9 => nonce().map(Subject::Completed),
            10 => Some(Subject::Receipted),
            11 => Some(Subject::Verified),
            12 => Some(Subject::Derived),
            13 => nonce().map(Subject::Announced),
            14 => Some(Subject::Disposed),
            _ => return Err(FactError("the kind is unknown: written by a newer version")),
        };
        Ok(Self {
            recording: RecordingId::from_bytes(*id),
            generation: u32::from_be_bytes(*generation),
            subject: subject.ok_or(error)?,
        })
    }
}

impl Fact {
    /// The record's value.
    pub fn encode(&self) -> Bytes {
        let at = |t: &Timestamp| Some(time::to_proto(*t));
        let root = |r: &Option<Blake3>| r.map(|d| Bytes::copy_from_slice(&d.0)).unwrap_or_default();
        use proto::fact::Fact as P;
        let fact = match self {
            Fact::Opened(o) => P::Opened(proto::Opened {
                bureau: o.bureau.to_string(),
                idempotency_key: o.key.as_str().to_owned(),
                metadata: Some(o.metadata.to_proto()),
                size: o.shape.size,
                segment_size: o.shape.segment_size,
                opened_at: at(&o.opened_at),
            }),
            Fact::Acknowledged(a) => P::Acknowledged(proto::Acknowledged {
                length: a.length,
                footage_offset: a.footage_offset,
                root: root(&a.root),
                acknowledged_at: a.at.map(time::to_proto),
            }),
            Fact::Claimed(t) => P::Claimed(proto::Claimed { claimed_at: at(t) }),
            Fact::PartStored(p) => P::PartStored(proto::PartStored {
                length: p.length,
                etag: p.etag.clone(),
                crc64nvme: p.crc64nvme,
                multipart_id: p.multipart_id.clone(),
                root: root(&p.root),
            }),
            Fact::Sealed(size, t) => P::Sealed(proto::Sealed { size: *size, sealed_at: t.map(time::to_proto) }),
            Fact::Reset(t) => P::Reset(proto::Reset { reset_at: at(t) }),
            Fact::AbandonRequested(t) => P::AbandonRequested(proto::AbandonRequested { requested_at: at(t) }),
            Fact::Abandoned(t) => P::Abandoned(proto::Abandoned { abandoned_at: at(t) }),
            Fact::Completed(c) => P::Completed(proto::Completed {
                version: c.version.clone(),
                stored_at: at(&c.stored_at),
                lock_until: at(&c.lock_until),
                legal_hold: c.legal_hold,
                crc64nvme: c.crc64nvme,
            }),
            Fact::Receipted(receipt, t) => {
                P::Receipted(proto::Receipted { receipt: Some(receipt.to_proto()), stored_at: at(t) })
            }
            Fact::Verified(intact, t) => P::Verified(proto::Verified { intact: *intact, verified_at: at(t) }),
            Fact::Derived(failure, t) => {
                P::Derived(proto::Derived { failure: failure.clone().unwrap_or_default(), derived_at: at(t) })
            }
            Fact::Announced(a) => P::Announced(proto::Announced {
                bureau: a.bureau.to_string(),
                idempotency_key: a.key.as_str().to_owned(),
                metadata: Some(a.metadata.to_proto()),
                announced_at: at(&a.announced_at),
            }),
            Fact::Disposed(d) => {
                P::Disposed(proto::Disposed { bureau: d.bureau.to_string(), disposed_at: at(&d.disposed_at) })
            }
        };
        proto::Fact { fact: Some(fact) }.encode_to_vec().into()
    }

    /// Reads a record's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, FactError> {
        let message = proto::Fact::decode(bytes).map_err(|_| FactError("the value is not a Fact"))?;
        use proto::fact::Fact as P;
        Ok(match message.fact.ok_or(FactError("the value is empty"))? {
            P::Opened(o) => Fact::Opened(Box::new(Opened {
                bureau: o.bureau.parse().map_err(|_| FactError("bureau"))?,
                key: o.idempotency_key.parse().map_err(|_| FactError("idempotency_key"))?,
                metadata: Metadata::from_proto(&o.metadata.unwrap_or_default()).map_err(|_| FactError("metadata"))?,
                shape: Shape { segment_size: o.segment_size, size: o.size },
                opened_at: moment(&o.opened_at)?,
            })),
            P::Acknowledged(a) => Fact::Acknowledged(Acknowledged {
                length: a.length,
                footage_offset: a.footage_offset,
                root: digest(&a.root)?,
                at: a.acknowledged_at.as_ref().and_then(time::from_proto),
            }),
            P::Claimed(c) => Fact::Claimed(moment(&c.claimed_at)?),
            P::PartStored(p) => Fact::PartStored(PartStored {
                length: p.length,
                etag: p.etag,
                crc64nvme: p.crc64nvme,
                multipart_id: p.multipart_id,
                root: digest(&p.root)?,
            }),
            P::Sealed(s) => Fact::Sealed(s.size, s.sealed_at.as_ref().and_then(time::from_proto)),
            P::Reset(r) => Fact::Reset(moment(&r.reset_at)?),
            P::AbandonRequested(r) => Fact::AbandonRequested(moment(&r.requested_at)?),
            P::Abandoned(a) => Fact::Abandoned(moment(&a.abandoned_at)?),
            P::Completed(c) => Fact::Completed(Completed {
                version: c.version,
                stored_at: moment(&c.stored_at)?,
                lock_until: moment(&c.lock_until)?,
                legal_hold: c.legal_hold,
                crc64nvme: c.crc64nvme,
            }),
            P::Receipted(r) => {
                let receipt = r.receipt.ok_or(FactError("receipt"))?;
                let receipt = Receipt::from_proto(&receipt).map_err(|_| FactError("receipt"))?;
                Fact::Receipted(Box::new(receipt), moment(&r.stored_at)?)
            }
            P::Verified(v) => Fact::Verified(v.intact, moment(&v.verified_at)?),
            P::Announced(a) => Fact::Announced(Box::new(Announced {
                bureau: a.bureau.parse().map_err(|_| FactError("bureau"))?,
                key: a.idempotency_key.parse().map_err(|_| FactError("idempotency_key"))?,
                metadata: Metadata::from_proto(&a.metadata.unwrap_or_default()).map_err(|_| FactError("metadata"))?,
                announced_at: moment(&a.announced_at)?,
            })),
            P::Disposed(d) => Fact::Disposed(Disposed {
                bureau: d.bureau.parse().map_err(|_| FactError("bureau"))?,
                disposed_at: moment(&d.disposed_at)?,
            }),
            P::Derived(d) => Fact::Derived(Some(d.failure).filter(|f| !f.is_empty()), moment(&d.derived_at)?),
        })
    }
}

fn moment(at: &Option<prost_types::Timestamp>) -> Result<Timestamp, FactError> {
    at.as_ref().and_then(time::from_proto).ok_or(FactError("a time is missing or malformed"))
}

fn digest(bytes: &Bytes) -> Result<Option<Blake3>, FactError> {
    match bytes.len() {
        0 => Ok(None),
        _ => Ok(Some(Blake3(bytes[..].try_into().map_err(|_| FactError("a digest is not 32 bytes"))?))),
    }
}

/// Reads a record of `uploads`: its key, and the fact or, for a tombstone, none.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<(FactKey, Option<Fact>), FactError> {
    Ok((FactKey::decode(key)?, value.map(Fact::decode).transpose()?))
}
