//! Media: reads every stored original back whole, checks and digests it, and makes proxy and pictures.
//!
//! FFmpeg runs only in `caselock-media-worker`, a child process in a sandbox: a file that crashes or hangs it costs one job.

mod config;
mod derive;
mod documents;
mod error;
mod job;
mod metrics;
mod original;
mod service;
mod worker;

pub use config::MediaConfig;
pub use service::{Media, MediaContext, start};
