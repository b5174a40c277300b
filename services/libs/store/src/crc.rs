use std::fmt;

use crc_fast::{CrcAlgorithm, checksum, checksum_combine};

/// A CRC-64/NVME: the checksum S3 can verify over a whole multipart object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc64Nvme(pub u64);

impl Crc64Nvme {
    /// The checksum of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// The checksum of these bytes followed by `length` more with checksum `next`.
    #[must_use]
    pub fn then(self, next: Self, length: u64) -> Self {
        Self(checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, next.0, length))
    }

    /// The checksum of parts put together; of nothing without parts.
    pub fn of_parts(parts: impl IntoIterator<Item = (Self, u32)>) -> Self {
        let nothing = Self::of(b"");
        parts.into_iter().fold(nothing, |whole, (crc, length)| whole.then(crc, u64::from(length)))
    }
}

/// 16 hex digits.
impl fmt::Display for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crc64nvme:{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_the_catalogue_s() {
        assert_eq!(Crc64Nvme::of(b"123456789").to_string(), "ae8b14860a799888");
    }

    #[test]
    fn parts_make_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        let parts = bytes.chunks(999).map(|p| (Crc64Nvme::of(p), p.len() as u32));
        assert_eq!(Crc64Nvme::of_parts(parts), Crc64Nvme::of(&bytes));
    }
}
