//! Segments as records of `caselock.footage.v1`: headers as text, the payload the raw bytes.

use bytes::Bytes;

use crate::{digest::SegmentValue, id::RecordingId};

/// What identifies a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentRef {
    /// The recording.
    pub recording: RecordingId,
    /// The generation it was sent in.
    pub generation: u32,
    /// Its index.
    pub index: u32,
    /// Its BLAKE3 subtree chaining value.
    pub value: SegmentValue,
}

impl SegmentRef {
    /// The record's headers.
    pub fn headers(&self) -> Vec<(String, Bytes)> {
        let pairs = [
            ("cl-kind", "segment".to_owned()),
            ("cl-schema", "1".to_owned()),
            ("cl-recording", self.recording.to_string()),
            ("cl-generation", self.generation.to_string()),
            ("cl-index", self.index.to_string()),
            ("cl-value", hex::encode(self.value.0)),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.into())).into()
    }

    /// Reads the headers; the error names the one that is wrong.
    pub fn from_headers(headers: &[(String, Bytes)]) -> Result<Self, &'static str> {
        let text = |name: &'static str| {
            let header = headers.iter().find(|(n, _)| n == name).ok_or(name)?;
            std::str::from_utf8(&header.1).map_err(|_| name)
        };
        if text("cl-kind")? != "segment" {
            return Err("cl-kind");
        }
        if text("cl-schema")? != "1" {
            return Err("cl-schema");
        }
        let mut value = [0; 32];
        hex::decode_to_slice(text("cl-value")?, &mut value).map_err(|_| "cl-value")?;
        Ok(Self {
            recording: text("cl-recording")?.parse().map_err(|_| "cl-recording")?,
            generation: text("cl-generation")?.parse().map_err(|_| "cl-generation")?,
            index: text("cl-index")?.parse().map_err(|_| "cl-index")?,
            value: SegmentValue(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_headers() {
        let segment = SegmentRef {
            recording: RecordingId::from_bytes([3; 16]),
            generation: 2,
            index: 9_999,
            value: SegmentValue([8; 32]),
        };
        let mut headers = segment.headers();
        headers.push(("traceparent".into(), "x".into()));
        assert_eq!(SegmentRef::from_headers(&headers), Ok(segment));
        headers.retain(|(name, _)| name != "cl-index");
        assert_eq!(SegmentRef::from_headers(&headers), Err("cl-index"));
    }
}
