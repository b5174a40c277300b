//! The registry: what is stored, which cases it is evidence in, how long it must be kept, and by when it had to come.
//!
//! It never stands between a bureau and an acknowledgement or a receipt. Its database is a view: of the events, and of the
//! documents in the store, from which alone it can be rebuilt.

mod api;
mod attention;
mod audit;
mod cases;
mod command;
mod config;
mod db;
mod deadlines;
mod disposal;
mod documents;
mod error;
mod extensions;
mod facets;
mod find;
mod follow;
mod gauges;
mod keeper;
mod locks;
mod metrics;
mod objects;
mod outbox;
mod rebuild;
mod recording;
mod rules;
mod service;
mod turns;

use caselock_domain::time::Timestamp;

pub use attention::{Raised, raised};
pub use audit::{Finding, Kind, Line, Rule, Summary, audit};
pub use cases::Cases;
pub use command::{run_audit, run_rebuild};
pub use config::{Periods, RegistryConfig};
pub use db::Db;
pub use deadlines::{Awaited, Judge};
pub use disposal::{Disposable, Disposer, Refused};
pub use error::RegistryError;
pub use extensions::Wish;
pub use find::{Found, Wanted, find};
pub use follow::Following;
pub use keeper::Keeper;
pub use outbox::Outbox;
pub use rebuild::rebuild;
pub use recording::Recording;
pub use rules::Rules;
pub use service::{Registry, RegistryContext, start};

/// A moment as rows have it: seconds since 1970.
fn moment(seconds: i64) -> Result<Timestamp, RegistryError> {
    Timestamp::from_second(seconds).map_err(malformed)
}

fn malformed(error: impl ToString) -> RegistryError {
    RegistryError::Row(error.to_string())
}
