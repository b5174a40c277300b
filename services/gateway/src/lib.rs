//! The gateway: the gRPC front door. Takes segments, puts them into the log, and only then says so.
//!
//! It holds no store credentials, no disk, no database: what it knows is a view of the topic `uploads`, which any gateway
//! can build anew.

mod admission;
mod config;
mod ingest;
mod metrics;
mod server;
mod view;

pub use config::GatewayConfig;
pub use server::{Gateway, GatewayContext, start};
