//! What media counts. No ids of recordings or people as labels.

use std::time::Duration;

use caselock_runtime::count::{counter, counter_by, seconds};
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, UpDownCounter},
};

use crate::job::Outcome;

const METER: &str = "caselock-media";
/// Why nothing is made of a recording (errors.md).
const FAILURES: [&str; 9] = [
    "NOT_MEDIA",
    "UNREADABLE",
    "UNSUPPORTED",
    "INTERNAL",
    "WORKER_TIMEOUT",
    "WORKER_LIMIT",
    "WORKER_KILLED",
    "WORKER_CRASHED",
    "WORKER_ATTACKED",
];
/// Why, beside those, a job becomes a dead letter.
const IMPOSSIBLE: [&str; 8] = [
    "JOB_MALFORMED",
    "MANIFEST_MISSING",
    "MANIFEST_UNREADABLE",
    "ORIGINAL_NOT_LOCKED",
    "ORIGINAL_CHANGED",
    "DOCUMENT_UNREADABLE",
    "DOCUMENT_UNWRITABLE",
    "STORE_REFUSED",
];
/// The bounds of `caselock_media_job_seconds`.
const JOBS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0];

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
    jobs: Histogram<f64>,
}

/// A job in hand, until it is dropped.
pub struct InHand(UpDownCounter<i64>);

impl MediaMetrics {
    pub fn new() -> Self {
        let in_hand = global::meter(METER).i64_up_down_counter("caselock_media_jobs_in_hand").build();
        in_hand.add(0, &[]);
        Self {
            in_hand,
            verified: counter(METER, "caselock_media_recordings_verified"),
            verified_bytes: counter(METER, "caselock_media_verified_bytes"),
            mismatches: counter(METER, "caselock_media_mismatches"),
            derived: counter(METER, "caselock_media_recordings_derived"),
            failures: counter_by(METER, "caselock_media_derivation_failures", "reason", FAILURES),
            dead_letters: counter_by(
                METER,
                "caselock_media_dead_letters",
                "reason",
                FAILURES.into_iter().chain(IMPOSSIBLE),
            ),
            jobs: seconds(METER, "caselock_media_job_seconds", &JOBS),
        }
    }

    /// Counts a job that is begun.
    pub fn begin(&self) -> InHand {
        self.in_hand.add(1, &[]);
        InHand(self.in_hand.clone())
    }

    /// A job ended so, after so long: failed tries and what was waited for counted.
    pub fn ended(&self, outcome: Outcome, after: Duration) {
        self.jobs.record(after.as_secs_f64(), &[KeyValue::new("outcome", outcome.as_str())]);
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
