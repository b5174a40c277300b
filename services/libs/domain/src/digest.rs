//! BLAKE3 in pieces: a segment's subtree chaining value, and the whole's digest merged from them.
//!
//! A segment starts at a multiple of a power of two not smaller than itself, so it is a subtree of BLAKE3's tree, and
//! the whole digest follows from the segments' values alone: in any order, on any machine, without the bytes.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// The BLAKE3 of a whole recording: what `b3sum` prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blake3(pub [u8; 32]);

/// A segment's subtree chaining value (`blake3::hazmat`). Bound to the segment's offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentValue(pub [u8; 32]);

impl Blake3 {
    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// A digest is written `blake3:` and lower-case hex in documents.
impl From<Blake3> for String {
    fn from(digest: Blake3) -> Self {
        format!("blake3:{}", digest.to_hex())
    }
}

impl TryFrom<String> for Blake3 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("blake3:").ok_or("expected blake3: and 64 hex digits")?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| "expected blake3: and 64 hex digits")?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Blake3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.to_hex())
    }
}

impl fmt::Debug for SegmentValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cv:{}", hex::encode(self.0))
    }
}

/// What hashing one segment gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentDigest {
    /// The subtree's chaining value.
    pub value: SegmentValue,
    /// For segment 0 the root-finalised hash as well: it may turn out to be the only one.
    pub root: Option<Blake3>,
}

/// Hashes one segment as its bytes come.
pub struct SegmentHasher {
    hasher: blake3::Hasher,
    first: bool,
}

impl SegmentHasher {
    /// Begins segment `index` of a recording with segments of `segment_size` bytes, a power of two from 1 KiB.
    pub fn new(index: u32, segment_size: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(u64::from(index) * u64::from(segment_size));
        Self { hasher, first: index == 0 }
    }

    /// Takes the next bytes. Together not more than the segment size.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of what came; `None` if nothing did.
    pub fn finish(self) -> Option<SegmentDigest> {
        let hashed = if self.first { self.hasher.count() } else { 1 };
        if hashed == 0 {
            return None;
        }
        Some(SegmentDigest {
            value: SegmentValue(self.hasher.finalize_non_root()),
            root: self.first.then(|| Blake3(*self.hasher.finalize().as_bytes())),
        })
    }
}

/// Hashes a whole segment. Its bytes must not be empty.
pub fn segment_digest(index: u32, segment_size: u32, bytes: &[u8]) -> Option<SegmentDigest> {
    if bytes.is_empty() {
        return None;
    }
    let mut hasher = SegmentHasher::new(index, segment_size);
    hasher.update(bytes);
    hasher.finish()
}

/// The BLAKE3 of the whole, from the values of all its segments in order. `root` is segment 0's root-finalised hash,
/// which is the answer where there is only one. `None` without segments, or where a needed `root` is missing.
pub fn merge(values: &[SegmentValue], root: Option<Blake3>) -> Option<Blake3> {
    match values {
        [] => None,
        [_] => root,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            let root = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
            Some(Blake3(*root.as_bytes()))
        }
    }
}

fn subtree(values: &[SegmentValue]) -> [u8; 32] {
    match values {
        [one] => one.0,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// BLAKE3's tree is left-complete: the left side is the largest power of two below the length.
fn left_len(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merged_values_are_the_digest_of_the_whole(len in 1usize..40_000, power in 10u32..14, seed: u8) {
            let segment_size = 1usize << power;
            let bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let digests: Vec<_> = bytes
                .chunks(segment_size)
                .enumerate()
                .map(|(i, s)| segment_digest(i as u32, segment_size as u32, s).unwrap())
                .collect();
            let values: Vec<_> = digests.iter().map(|d| d.value).collect();
            let whole = Blake3(*blake3::hash(&bytes).as_bytes());
            prop_assert_eq!(merge(&values, digests[0].root), Some(whole));
        }
    }

    #[test]
    fn nothing_has_no_digest() {
        assert_eq!(segment_digest(0, 1024, b""), None);
        assert_eq!(SegmentHasher::new(0, 1024).finish(), None);
        assert_eq!(merge(&[], None), None);
    }

    #[test]
    fn a_value_belongs_to_its_place() {
        let here = segment_digest(1, 1024, b"footage").unwrap();
        let there = segment_digest(2, 1024, b"footage").unwrap();
        assert_ne!(here.value, there.value);
    }
}
