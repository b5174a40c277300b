//! What the archiver counts. No ids of recordings or people as labels.

use caselock_domain::id::BureauId;
use caselock_runtime::count::{counter, counter_by, seconds};
use jiff::SignedDuration;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

const METER: &str = "caselock-archiver";
/// Why footage is asked for again, as far as is known from the start.
const RESETS: [&str; 8] = [
    "DIGEST_MISMATCH",
    "FOOTAGE_LOST",
    "MULTIPART_GONE",
    "OBJECT_UNKNOWN",
    "PARTS_OF_ANOTHER_CLAIM",
    "SEGMENT_CONFLICT",
    "SEGMENT_CORRUPT",
    "SEGMENT_REFUSED_BY_STORE",
];
/// Likewise, why a record of footage becomes a dead letter.
const DEAD_LETTERS: [&str; 5] =
    ["FOOTAGE_MALFORMED", "RECORDING_UNKNOWN", "SEGMENT_CORRUPT", "SEGMENT_REFUSED_BY_STORE", "STEP_FAILED"];
/// The bounds of `caselock_archiver_receipt_seconds`.
const RECEIPTS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0];

#[derive(Clone)]
pub struct ArchiverMetrics {
    parts: Counter<u64>,
    part_bytes: Counter<u64>,
    stored: Counter<u64>,
    bureau_stored: Counter<u64>,
    resets: Counter<u64>,
    dead_letters: Counter<u64>,
    receipts: Histogram<f64>,
}

impl ArchiverMetrics {
    pub fn new() -> Self {
        Self {
            parts: counter(METER, "caselock_archiver_parts"),
            part_bytes: counter(METER, "caselock_archiver_part_bytes"),
            stored: counter(METER, "caselock_archiver_recordings_stored"),
            bureau_stored: counter_by(METER, "caselock_archiver_bureau_recordings_stored", "bureau", []),
            resets: counter_by(METER, "caselock_archiver_resets", "reason", RESETS),
            dead_letters: counter_by(METER, "caselock_archiver_dead_letters", "reason", DEAD_LETTERS),
            receipts: seconds(METER, "caselock_archiver_receipt_seconds", &RECEIPTS),
        }
    }

    /// A segment was stored, as a part or as the whole.
    pub fn part(&self, length: u32) {
        self.parts.add(1, &[]);
        self.part_bytes.add(u64::from(length), &[]);
    }

    pub fn reset(&self, reason: &'static str) {
        self.resets.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub fn stored(&self, bureau: &BureauId) {
        self.stored.add(1, &[]);
        self.bureau_stored.add(1, &[KeyValue::new("bureau", bureau.to_string())]);
    }

    /// A receipt was recorded so long after the seal, which comes with the last byte.
    pub fn receipt(&self, after: SignedDuration) {
        // Two clocks may differ a little.
        self.receipts.record(after.as_secs_f64().max(0.0), &[]);
    }

    pub fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.add(1, &[KeyValue::new("reason", reason)]);
    }
}
