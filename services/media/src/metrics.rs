//! What media counts. No ids of recordings or people as labels.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, UpDownCounter},
};

#[derive(Clone)]
pub struct MediaMetrics {
    in_hand: UpDownCounter<i64>,
    pub verified: Counter<u64>,
    pub verified_bytes: Counter<u64>,
    /// Originals that came back with other bytes: each is an alarm.
    pub mismatches: Counter<u64>,
    pub derived: Counter<u64>,
    failures: Counter<u64>,
    dead_letters: Counter<u64>,
}

/// A job in hand, until it is dropped.
pub struct InHand(UpDownCounter<i64>);

impl MediaMetrics {
    pub fn new() -> Self {
        let meter = global::meter("caselock-media");
        Self {
            in_hand: meter.i64_up_down_counter("caselock_media_jobs_in_hand").build(),
            verified: meter.u64_counter("caselock_media_recordings_verified").build(),
            verified_bytes: meter.u64_counter("caselock_media_verified_bytes").build(),
            mismatches: meter.u64_counter("caselock_media_mismatches").build(),
            derived: meter.u64_counter("caselock_media_recordings_derived").build(),
            failures: meter.u64_counter("caselock_media_derivation_failures").build(),
            dead_letters: meter.u64_counter("caselock_media_dead_letters").build(),
        }
    }

    /// Counts a job that is begun.
    pub fn begin(&self) -> InHand {
        self.in_hand.add(1, &[]);
        InHand(self.in_hand.clone())
    }

    pub fn failure(&self, reason: &str) {
        self.failures.add(1, &[KeyValue::new("reason", reason.to_owned())]);
    }

    pub fn dead_letter(&self, reason: &str) {
        self.dead_letters.add(1, &[KeyValue::new("reason", reason.to_owned())]);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}
