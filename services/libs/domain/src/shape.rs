//! How a recording is cut into segments.

/// The usual segment: 8 MiB.
pub const SEGMENT: u32 = 8 << 20;
/// The segment of recordings too large for 10,000 of the usual ones: 16 MiB, which fits the log's 17 MiB records.
pub const LARGE_SEGMENT: u32 = 16 << 20;
/// The most parts an object may be uploaded in (S3).
pub const MAX_SEGMENTS: u32 = 10_000;
/// The largest chunk a segment may travel in: 1 MiB.
pub const MAX_CHUNK: usize = 1 << 20;
/// Streams of segments that a client opens on one connection: so many that are not read, since their segments wait for memory, do not
/// fill the gateway's window of a connection.
pub const STREAMS_PER_CONNECTION: u32 = 3;

/// Why a size can't be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// There is nothing to store.
    #[error("the recording is empty: expected at least 1 byte")]
    Empty,
    /// More than 10,000 segments of 16 MiB.
    #[error("the recording is too large: expected at most {} bytes", LARGE_SEGMENT as u64 * MAX_SEGMENTS as u64)]
    TooLarge,
}

/// The cut of one recording. Fixed when the upload is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The length of every segment but the last, in bytes.
    pub segment_size: u32,
    /// The declared size in bytes, if there is one.
    pub size: Option<u64>,
}

impl Shape {
    /// The cut for a declared size: 8 MiB segments, or 16 MiB where 10,000 of those are not enough. Without a declared
    /// size, 8 MiB.
    pub fn for_size(size: Option<u64>) -> Result<Self, ShapeError> {
        let segment_size = match size {
            Some(0) => return Err(ShapeError::Empty),
            None => SEGMENT,
            Some(n) if n <= u64::from(SEGMENT) * u64::from(MAX_SEGMENTS) => SEGMENT,
            Some(n) if n <= u64::from(LARGE_SEGMENT) * u64::from(MAX_SEGMENTS) => LARGE_SEGMENT,
            Some(_) => return Err(ShapeError::TooLarge),
        };
        Ok(Self { segment_size, size })
    }

    /// How many segments `size` bytes make. Saturates, so that no size overflows.
    pub fn segments_of(&self, size: u64) -> u32 {
        u32::try_from(size.div_ceil(u64::from(self.segment_size))).unwrap_or(u32::MAX)
    }

    /// Whether `size` bytes make a single segment.
    pub fn is_one_segment(&self, size: u64) -> bool {
        self.segments_of(size) == 1
    }

    /// Whether a segment of this index and length can belong to the recording: within the declared size, exactly as long
    /// as that asks; without one, not longer than a segment and not beyond 10,000.
    pub fn admits(&self, index: u32, length: u32) -> bool {
        match self.size {
            Some(size) => index < self.segments_of(size) && length == self.length_of(size, index),
            None => index < MAX_SEGMENTS && (1..=self.segment_size).contains(&length),
        }
    }

    /// The length of segment `index` of a recording of `size` bytes. 0 beyond the end.
    pub fn length_of(&self, size: u64, index: u32) -> u32 {
        let start = u64::from(index) * u64::from(self.segment_size);
        size.saturating_sub(start).min(u64::from(self.segment_size)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_follows_the_size() {
        let small = u64::from(SEGMENT) * u64::from(MAX_SEGMENTS);
        assert_eq!(Shape::for_size(None).unwrap().segment_size, SEGMENT);
        assert_eq!(Shape::for_size(Some(small)).unwrap().segment_size, SEGMENT);
        assert_eq!(Shape::for_size(Some(small + 1)).unwrap().segment_size, LARGE_SEGMENT);
        assert_eq!(Shape::for_size(Some(2 * small + 1)), Err(ShapeError::TooLarge));
        assert_eq!(Shape::for_size(Some(u64::MAX)), Err(ShapeError::TooLarge));
        assert_eq!(Shape::for_size(Some(0)), Err(ShapeError::Empty));
    }

    #[test]
    fn only_what_fits_is_admitted() {
        let exact = Shape::for_size(Some(u64::from(SEGMENT))).unwrap();
        assert!(exact.admits(0, SEGMENT) && !exact.admits(1, 1) && !exact.admits(0, SEGMENT - 1));
        let one_more = Shape::for_size(Some(u64::from(SEGMENT) + 1)).unwrap();
        assert!(one_more.admits(1, 1) && !one_more.admits(1, 2) && !one_more.admits(2, 1));
        let open = Shape::for_size(None).unwrap();
        assert!(open.admits(9_999, 1) && !open.admits(10_000, 1) && !open.admits(0, 0));
        assert!(!open.admits(0, SEGMENT + 1));
    }
}
