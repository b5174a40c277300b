//! The clock that composition roots give to everything else.

use std::sync::Arc;

use caselock_domain::time::{Clock, Timestamp};

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}
