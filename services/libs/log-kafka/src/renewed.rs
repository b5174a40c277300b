//! Clients that follow their certificates and secrets: librdkafka reads them once, when a client is made.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use caselock_log::LogError;
use caselock_runtime::secret::Secret;
use rdkafka::error::KafkaResult;

use crate::{KafkaConfig, config::Property};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What the files had in them when a client was made.
pub struct Made {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    looked: Instant,
}

impl Made {
    /// Of a client that is made right after.
    pub fn now(config: &KafkaConfig) -> Self {
        let path = |(name, value): (&String, &Property)| {
            let is_file = name.replace('_', ".").ends_with(".location");
            let value = value.to_string();
            if is_file { Some(value.into()) } else { Secret::from(value).file().map(Into::into) }
        };
        let paths = config.properties.iter().filter_map(path);
        Self { files: paths.map(|path: PathBuf| (path.clone(), read(&path))).collect(), looked: Instant::now() }
    }

    /// Whether something else is in them by now. They are read every ten seconds at most; one that can't be read has not changed.
    pub fn is_stale(&mut self) -> bool {
        if self.files.is_empty() || self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        self.files.iter().any(|(path, was)| read(path).is_some_and(|is| Some(is) != *was))
    }
}

/// What a reader ends with, so that it is begun anew.
pub fn stale() -> LogError {
    LogError::Unavailable("certificates or secrets of kafka.properties have changed: beginning anew with them".into())
}

// A folder of certificates is not looked into.
fn read(path: &PathBuf) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

type Make<T> = Box<dyn Fn(&KafkaConfig) -> KafkaResult<T> + Send + Sync>;

/// A client that is made anew when its files have changed.
pub struct Renewed<T> {
    config: KafkaConfig,
    make: Make<T>,
    current: Mutex<(Arc<T>, Made)>,
}

impl<T> Renewed<T> {
    /// Makes it.
    pub fn new(
        config: &KafkaConfig,
        make: impl Fn(&KafkaConfig) -> KafkaResult<T> + Send + Sync + 'static,
    ) -> KafkaResult<Self> {
        let made = Made::now(config);
        let current = Mutex::new((Arc::new(make(config)?), made));
        Ok(Self { config: config.clone(), make: Box::new(make), current })
    }

    /// The one to be used now. Who uses one before it goes on with that to the end.
    pub fn get(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.is_stale() {
            tracing::info!("certificates or secrets of kafka.properties have changed: making a client with them");
            self.make_anew(&mut current);
        }
        current.0.clone()
    }

    /// Makes a new one instead of this one, which has failed for good; unless others that failed with it have done so.
    pub fn replace(&self, failed: &Arc<T>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current.0, failed) {
            self.make_anew(&mut current);
        }
    }

    fn make_anew(&self, current: &mut (Arc<T>, Made)) {
        let made = Made::now(&self.config);
        match (self.make)(&self.config) {
            Ok(new) => *current = (Arc::new(new), made),
            Err(error) => tracing::error!(%error, "can't make a client; going on with the one before"),
        }
    }
}
