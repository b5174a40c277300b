//! What the gateway counts. No ids of recordings or people as labels.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use caselock_domain::{id::BureauId, reason::Reason};
use caselock_runtime::count::{counter, counter_by, gauge, seconds};

use crate::{ingest::Ingest, view::Usage};

const METER: &str = "caselock-gateway";
const BUREAU: &str = "bureau";
/// Bounds of the time that a segment takes to be in the log, in seconds.
const ACKNOWLEDGE: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The gateway's instruments.
#[derive(Clone)]
pub struct GatewayMetrics {
    accepted: Counter<u64>,
    accepted_bytes: Counter<u64>,
    received_bytes: Counter<u64>,
    refused: Counter<u64>,
    bureau_bytes: Counter<u64>,
    bureau_refused: Counter<u64>,
    acknowledged: Histogram<f64>,
}

impl GatewayMetrics {
    pub fn new() -> Self {
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        Self {
            accepted: counter(METER, "caselock_gateway_segments_accepted"),
            received_bytes: counter(METER, "caselock_gateway_received_bytes"),
            accepted_bytes: counter(METER, "caselock_gateway_accepted_bytes"),
            refused: counter_by(METER, "caselock_gateway_refusals", "reason", reasons),
            bureau_bytes: counter_by(METER, "caselock_gateway_bureau_accepted_bytes", BUREAU, []),
            bureau_refused: counter_by(METER, "caselock_gateway_bureau_segments_refused", BUREAU, []),
            acknowledged: seconds(METER, "caselock_gateway_acknowledge_seconds", &ACKNOWLEDGE),
        }
    }

    pub fn accepted(&self, bureau: &BureauId, bytes: u64) {
        self.accepted.add(1, &[]);
        self.accepted_bytes.add(bytes, &[]);
        let bureau = [KeyValue::new(BUREAU, bureau.to_string())];
        self.bureau_bytes.add(bytes, &bureau);
        self.bureau_refused.add(0, &bureau);
    }

    /// How long a segment that is whole took to be in the log.
    pub fn acknowledged(&self, took: Duration) {
        self.acknowledged.record(took.as_secs_f64(), &[]);
    }

    pub fn segment_refused(&self, bureau: &BureauId, reason: &'static str) {
        self.refused(reason);
        self.bureau_refused.add(1, &[KeyValue::new(BUREAU, bureau.to_string())]);
    }

    /// Bytes of segments that came in, taken or not.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64, &[]);
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// What is looked at when metrics are read.
pub fn observe(ingest: &Arc<Ingest>) {
    look(ingest, "caselock_gateway_in_flight_bytes", |ingest| ingest.admission.in_flight());
    look(ingest, "caselock_gateway_streams", |ingest| ingest.admission.streams().into());
    look(ingest, "caselock_gateway_open_uploads", |ingest| ingest.view.totals().0);
    look(ingest, "caselock_gateway_backlog_bytes", |ingest| ingest.view.totals().1);
    look_by_bureau(ingest, "caselock_gateway_bureau_open_uploads", |usage| usage.open_uploads);
    look_by_bureau(ingest, "caselock_gateway_bureau_backlog_bytes", |usage| usage.backlog);
    look_if(ingest, "caselock_gateway_oldest_unarchived_seconds", |ingest| {
        let waits = |since| (ingest.clock)().duration_since(since).as_secs().max(0) as u64;
        Some(ingest.view.oldest_unstored()?.map_or(0, waits))
    });
}

fn look(ingest: &Arc<Ingest>, name: &'static str, look: fn(&Ingest) -> u64) {
    look_if(ingest, name, move |ingest| Some(look(ingest)));
}

/// Of what may not be known.
fn look_if(ingest: &Arc<Ingest>, name: &'static str, look: impl Fn(&Ingest) -> Option<u64> + Send + Sync + 'static) {
    let ingest: Weak<Ingest> = Arc::downgrade(ingest);
    gauge(METER, name, move |observer| {
        if let Some(number) = ingest.upgrade().and_then(|ingest| look(&ingest)) {
            observer.observe(number, &[]);
        }
    });
}

fn look_by_bureau(ingest: &Arc<Ingest>, name: &'static str, look: fn(&Usage) -> u64) {
    let ingest: Weak<Ingest> = Arc::downgrade(ingest);
    gauge(METER, name, move |observer| {
        for (bureau, usage) in ingest.upgrade().map(|ingest| ingest.view.usages()).unwrap_or_default() {
            observer.observe(look(&usage), &[KeyValue::new(BUREAU, bureau.to_string())]);
        }
    });
}
