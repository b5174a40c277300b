//! Which partition a recording's records go to.

use crate::id::RecordingId;

/// The partition of a recording among `count`: the same for every topic keyed by recording. Our own hash, set
/// explicitly, so that no client library's default decides it.
///
/// # Panics
/// If `count` is 0.
pub fn of(recording: RecordingId, count: u32) -> u32 {
    let hash = blake3::hash(recording.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]) % count
}
