//! Who and what: bureaus, idempotency keys, recordings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {expected}")]
pub struct IdError {
    /// The field that is wrong.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

/// A bureau's id: 1 to 63 characters of `a-z`, `0-9` and `-`. It is part of object keys, so nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BureauId(String);

impl BureauId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BureauId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(IdError { field: "bureau", expected: "1 to 63 characters of a-z, 0-9 and -" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for BureauId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BureauId> for String {
    fn from(id: BureauId) -> Self {
        id.0
    }
}

impl fmt::Display for BureauId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a recording within its bureau: 1 to 200 characters of visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if !(1..=200).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(IdError {
                field: "idempotency_key",
                expected: "1 to 200 characters of visible ASCII, no spaces",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

/// A recording's id: a UUID of version 8 (RFC 9562) derived from bureau and idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordingId(Uuid);

impl RecordingId {
    /// Derives the id. The same bureau and key give the same id on every machine, for ever.
    pub fn derive(bureau: &BureauId, key: &IdempotencyKey) -> Self {
        let fields = [bureau.as_str(), key.as_str()];
        Self(derived_uuid("caselock.io 2026-11 recording id v1", &fields.map(str::as_bytes)))
    }

    /// The 16 bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// An id from its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for RecordingId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError { field: "recording_id", expected: "a UUID as OpenUpload returned it" };
        // Only the hyphenated form: one recording has one spelling.
        if text.len() != 36 {
            return Err(error);
        }
        Uuid::parse_str(text).map(Self).map_err(|_| error)
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A UUID of version 8 from BLAKE3 in key-derivation mode over the fields, each behind its length (u64, little-endian).
pub(crate) fn derived_uuid(context: &str, fields: &[&[u8]]) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_fixed_for_ever() {
        let id = RecordingId::derive(&"demo".parse().unwrap(), &"cam-7:1048576:abc".parse().unwrap());
        // A change of this value would make every bureau's next run upload everything again.
        assert_eq!(id.to_string(), RECORDED);
        assert_eq!(id.to_string().parse::<RecordingId>().unwrap(), id);
        assert_eq!(&id.to_string()[14..15], "8");
    }

    const RECORDED: &str = "4caabe52-8687-8251-adac-102fa81d262c";

    #[test]
    fn moving_a_character_between_the_fields_changes_the_id() {
        let a = RecordingId::derive(&"ab".parse().unwrap(), &"c".parse().unwrap());
        let b = RecordingId::derive(&"a".parse().unwrap(), &"bc".parse().unwrap());
        assert_ne!(a, b);
    }

    #[test]
    fn refuses_what_does_not_belong_in_a_key() {
        for bad in ["", "A", "a/b", "a_b", "..", &"a".repeat(64)] {
            assert!(bad.parse::<BureauId>().is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "日", &"a".repeat(201)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
        assert!("0123".parse::<RecordingId>().is_err());
    }
}
