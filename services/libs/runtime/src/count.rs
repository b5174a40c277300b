//! Instruments, and that they are there from the start: a counter that shows 0 tells "nothing yet" from "nobody counts", and a rate over its
//! first step is right.

use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Counter, Histogram},
};

/// A counter, from 0.
pub fn counter(meter: &'static str, name: &'static str) -> Counter<u64> {
    let counter = global::meter(meter).u64_counter(name).build();
    counter.add(0, &[]);
    counter
}

/// A counter of each of these values of a label, from 0.
pub fn counter_by(
    meter: &'static str,
    name: &'static str,
    label: &'static str,
    values: impl IntoIterator<Item = &'static str>,
) -> Counter<u64> {
    let counter = global::meter(meter).u64_counter(name).build();
    for value in values {
        counter.add(0, &[KeyValue::new(label, value)]);
    }
    counter
}

/// A histogram of seconds, with these bounds.
pub fn seconds(meter: &'static str, name: &'static str, bounds: &[f64]) -> Histogram<f64> {
    global::meter(meter).f64_histogram(name).with_boundaries(bounds.to_vec()).build()
}

/// A gauge that `look` tells whenever metrics are read. The meter keeps it.
pub fn gauge(
    meter: &'static str,
    name: &'static str,
    look: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    let _gauge = global::meter(meter).u64_observable_gauge(name).with_callback(look).build();
}
