//! The archiver: takes segments out of the log, makes each recording one locked object, and signs its receipt.
//!
//! It drives every recording of the partitions it owns from their facts. Each step can be repeated from the facts, by this
//! process or the next, with the same result; [`plan`] says which step is next.

mod clock_check;
mod config;
mod driven;
mod metrics;
mod partition;
pub mod plan;
mod progress;
mod retry;
mod service;
mod signing_key;
mod steps;

pub use config::{ArchiverConfig, RetentionConfig};
pub use service::{Archiver, ArchiverContext, start};
