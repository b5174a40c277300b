//! What the registry counts. No ids of recordings, cases or people as labels.

use opentelemetry::{global, metrics::Counter};

#[derive(Clone)]
pub struct RegistryMetrics {
    /// Recordings and records of cases that were compared with the store.
    pub compared: Counter<u64>,
    /// Objects whose date or hold was set.
    pub tightened: Counter<u64>,
    /// Objects whose hold was taken off.
    pub lifted: Counter<u64>,
    /// Objects that were found protected by less than was read back before.
    pub drifted: Counter<u64>,
    pub published: Counter<u64>,
    pub disposed: Counter<u64>,
}

impl RegistryMetrics {
    pub fn new() -> Self {
        let meter = global::meter("caselock-registry");
        Self {
            compared: meter.u64_counter("caselock_registry_subjects_compared").build(),
            tightened: meter.u64_counter("caselock_registry_objects_tightened").build(),
            lifted: meter.u64_counter("caselock_registry_holds_lifted").build(),
            drifted: meter.u64_counter("caselock_registry_drift_found").build(),
            published: meter.u64_counter("caselock_registry_events_published").build(),
            disposed: meter.u64_counter("caselock_registry_recordings_disposed").build(),
        }
    }
}
