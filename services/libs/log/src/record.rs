use bytes::Bytes;

use crate::Offset;

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The key; what compaction compares.
    pub key: Bytes,
    /// The headers, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Bytes>,
}

impl Record {
    /// A record without headers.
    pub fn new(key: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self { key: key.into(), headers: Vec::new(), payload: Some(payload.into()) }
    }

    /// A record that removes its key from a compacted topic.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), headers: Vec::new(), payload: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// How many bytes its payload has.
    pub fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// The first header of this name.
    pub fn header_value(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// A record at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: Offset,
    /// The record.
    pub record: Record,
}

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The next record of a partition.
    Entry(Entry),
    /// A partition was read up to `position`, its end at that moment. Compacted tails have holes, so the position may be
    /// more than one past the last record.
    End {
        /// The partition.
        partition: u32,
        /// The offset the next record will have, or a later one.
        position: Offset,
    },
}
