//! What the registry counts. No ids of recordings, cases or people as labels.

use caselock_runtime::count::counter;
use opentelemetry::metrics::Counter;

const METER: &str = "caselock-registry";

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
        Self {
            compared: counter(METER, "caselock_registry_subjects_compared"),
            tightened: counter(METER, "caselock_registry_objects_tightened"),
            lifted: counter(METER, "caselock_registry_holds_lifted"),
            drifted: counter(METER, "caselock_registry_drift_found"),
            published: counter(METER, "caselock_registry_events_published"),
            disposed: counter(METER, "caselock_registry_recordings_disposed"),
        }
    }
}
