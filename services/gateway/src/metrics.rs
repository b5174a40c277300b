//! What the gateway counts. No ids of recordings or people as labels.

use opentelemetry::{KeyValue, global, metrics::Counter};

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
