//! What the archiver counts. No ids of recordings or people as labels.

use opentelemetry::{KeyValue, global, metrics::Counter};

#[derive(Clone)]
pub struct ArchiverMetrics {
    parts: Counter<u64>,
    part_bytes: Counter<u64>,
    pub stored: Counter<u64>,
    resets: Counter<u64>,
    dead_letters: Counter<u64>,
}

impl ArchiverMetrics {
    pub fn new() -> Self {
        let meter = global::meter("caselock-archiver");
        Self {
            parts: meter.u64_counter("caselock_archiver_parts").build(),
            part_bytes: meter.u64_counter("caselock_archiver_part_bytes").build(),
            stored: meter.u64_counter("caselock_archiver_recordings_stored").build(),
            resets: meter.u64_counter("caselock_archiver_resets").build(),
            dead_letters: meter.u64_counter("caselock_archiver_dead_letters").build(),
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

    pub fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.add(1, &[KeyValue::new("reason", reason)]);
    }
}
