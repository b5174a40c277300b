//! What the gateway counts. No ids of recordings or people as labels.

use std::sync::{Arc, Weak};

use opentelemetry::{KeyValue, global, metrics::Counter};

use crate::ingest::Ingest;

/// The gateway's instruments.
#[derive(Clone)]
pub struct GatewayMetrics {
    accepted: Counter<u64>,
    accepted_bytes: Counter<u64>,
    received_bytes: Counter<u64>,
    refused: Counter<u64>,
}

impl GatewayMetrics {
    pub fn new() -> Self {
        let meter = global::meter("caselock-gateway");
        Self {
            accepted: meter.u64_counter("caselock_gateway_segments_accepted").build(),
            received_bytes: meter.u64_counter("caselock_gateway_received_bytes").build(),
            accepted_bytes: meter.u64_counter("caselock_gateway_accepted_bytes").build(),
            refused: meter.u64_counter("caselock_gateway_refusals").build(),
        }
    }

    pub fn accepted(&self, bytes: u64) {
        self.accepted.add(1, &[]);
        self.accepted_bytes.add(bytes, &[]);
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
    gauge(ingest, "caselock_gateway_in_flight_bytes", |ingest| ingest.admission.in_flight());
    gauge(ingest, "caselock_gateway_streams", |ingest| ingest.admission.streams().into());
    gauge(ingest, "caselock_gateway_open_uploads", |ingest| ingest.view.totals().0);
    gauge(ingest, "caselock_gateway_backlog_bytes", |ingest| ingest.view.totals().1);
}

fn gauge(ingest: &Arc<Ingest>, name: &'static str, look: fn(&Ingest) -> u64) {
    let ingest: Weak<Ingest> = Arc::downgrade(ingest);
    let meter = global::meter("caselock-gateway");
    let observed = meter.u64_observable_gauge(name).with_callback(move |observer| {
        if let Some(ingest) = ingest.upgrade() {
            observer.observe(look(&ingest), &[]);
        }
    });
    // The meter keeps it.
    let _gauge = observed.build();
}
