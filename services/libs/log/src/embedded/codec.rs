//! A record as rows: row 0 has key, headers and a small payload; larger payloads go into rows of their own, each a little
//! below 1 MiB, since redb gives a value a power of two of pages.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{LogError, Record};

const PIECE: usize = (1 << 20) - 4096;
const SMALL: usize = 3072;

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    small_payload: Option<Bytes>,
    #[prost(uint64, tag = "4")]
    large_payload: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The rows of a record, in order.
pub fn rows(record: Record) -> impl Iterator<Item = Bytes> {
    let (small, large) = match record.payload {
        Some(payload) if payload.len() > SMALL => (None, payload),
        small => (small, Bytes::new()),
    };
    let headers = record.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    let head = Head { key: record.key, headers, small_payload: small, large_payload: large.len() as u64 };
    let pieces = (0..large.len()).step_by(PIECE);
    let pieces = pieces.map(move |at| large.slice(at..large.len().min(at + PIECE)));
    std::iter::once(head.encode_to_vec().into()).chain(pieces)
}

/// Puts a record together again from its rows.
pub struct Assembler {
    record: Record,
    payload: BytesMut,
    missing: usize,
}

impl Assembler {
    /// Begins with row 0.
    pub fn begin(row: &[u8]) -> Result<Self, LogError> {
        let head = Head::decode(row).map_err(|e| LogError::Damaged(e.to_string()))?;
        let headers = head.headers.into_iter().map(|h| (h.name, h.value)).collect();
        let record = Record { key: head.key, headers, payload: head.small_payload };
        let missing = head.large_payload as usize;
        Ok(Self { record, payload: BytesMut::with_capacity(missing), missing })
    }

    /// Takes the next row.
    pub fn add(&mut self, row: &[u8]) {
        self.missing = self.missing.saturating_sub(row.len());
        self.payload.extend_from_slice(row);
    }

    /// Whether every row is there.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The record.
    pub fn finish(mut self) -> Record {
        if !self.payload.is_empty() {
            self.record.payload = Some(self.payload.freeze());
        }
        self.record
    }

    /// Its size in memory.
    pub fn len(&self) -> usize {
        self.payload.len() + self.record.payload.as_ref().map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_whatever_its_size() {
        for len in [0, 1, SMALL, SMALL + 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let record = Record::new("key", vec![7u8; len]).header("cl-kind", "segment");
            let mut rows = rows(record.clone());
            let mut assembler = Assembler::begin(&rows.next().unwrap()).unwrap();
            for row in rows {
                assert!(row.len() <= PIECE);
                assembler.add(&row);
            }
            assert!(assembler.is_complete());
            assert_eq!(assembler.finish(), record);
        }
        let tombstone = Record::tombstone("key");
        let row = rows(tombstone.clone()).next().unwrap();
        assert_eq!(Assembler::begin(&row).unwrap().finish(), tombstone);
    }
}
