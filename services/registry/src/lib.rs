//! The registry: what is stored, which cases it is evidence in, how long it must be kept, and by when it had to come.
//!
//! It never stands between a bureau and an acknowledgement or a receipt. Its database is a view: of the events, and of the
//! documents in the store, from which alone it can be rebuilt.

mod api;
mod audit;
mod cases;
mod config;
mod db;
mod documents;
mod error;
mod facets;
mod find;
mod follow;
mod keeper;
mod locks;
mod objects;
mod rebuild;
mod recording;
mod service;
mod turns;

pub use audit::{Finding, Kind, Line, Rule, Summary, audit};
pub use cases::Cases;
pub use config::{Periods, RegistryConfig};
pub use db::Db;
pub use error::RegistryError;
pub use find::{Found, Wanted, find};
pub use follow::Following;
pub use keeper::Keeper;
pub use rebuild::rebuild;
pub use recording::Recording;
pub use service::{Registry, RegistryContext, start};
