//! Whether a service can take work.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

const START_UP: &str = "start-up";

/// Named conditions; ready means that all of them hold, the end of start-up among them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Default for Health {
    fn default() -> Self {
        let health = Self(Arc::default());
        health.expect(START_UP);
        health
    }
}

impl Health {
    /// Start-up is done: everything has been checked and serves.
    pub fn started(&self) {
        self.up(START_UP);
    }

    /// Start-up waits in this step, for this reason.
    pub fn waits(&self, step: &'static str, reason: impl Display) {
        self.down(START_UP, format!("{step}: {reason}"));
    }

    /// Start-up waits no more, and is not done either.
    pub fn goes_on(&self) {
        self.expect(START_UP);
    }

    /// Whether start-up is done.
    pub fn has_started(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(START_UP).is_some_and(Option::is_none)
    }

    /// Adds a condition that does not hold yet.
    pub fn expect(&self, condition: &'static str) {
        self.set(condition, Some("not yet".into()));
    }

    /// The condition holds.
    pub fn up(&self, condition: &'static str) {
        self.set(condition, None);
    }

    /// The condition does not hold, for this reason.
    pub fn down(&self, condition: &'static str, reason: impl ToString) {
        self.set(condition, Some(reason.to_string()));
    }

    /// What keeps the service from being ready: condition and reason. Empty when it is.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, problem)| Some((*name, problem.clone()?))).collect()
    }

    fn set(&self, condition: &'static str, problem: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(condition, problem);
    }
}
