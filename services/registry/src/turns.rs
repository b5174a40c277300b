use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio::sync::{Mutex, MutexGuard};

/// As many subjects as may be worked on at once, at most.
const TURNS: usize = 64;

/// One hand at a time for each subject: whoever comes meanwhile waits.
#[derive(Clone)]
pub struct Turns(Arc<[Mutex<()>; TURNS]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new([const { Mutex::const_new(()) }; TURNS]))
    }
}

impl Turns {
    /// Waits for the subject's turn, which ends with what is returned. A second subject's must not be waited for meanwhile.
    pub async fn take(&self, subject: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        self.0[(hasher.finish() % TURNS as u64) as usize].lock().await
    }
}
