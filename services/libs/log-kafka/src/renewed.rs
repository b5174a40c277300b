//! Clients that follow their certificates and secrets: librdkafka reads them once, when a client is made.

use std::sync::{Arc, Mutex, PoisonError};

use caselock_runtime::{secret::Secret, watched::Watched};
use rdkafka::error::KafkaResult;

use crate::KafkaConfig;

/// The files that the properties name: `file:` values, and those of `ssl.*.location`.
pub fn files(config: &KafkaConfig) -> Watched {
    let file = |(name, value): (&String, &crate::config::Property)| {
        let (is_location, value) = (name.replace('_', ".").ends_with(".location"), Secret::from(value.to_string()));
        let named = value.file().map(Into::into);
        if is_location { value.read().ok().map(Into::into) } else { named }
    };
    Watched::new(config.properties.iter().filter_map(file))
}

type Make<T> = Box<dyn Fn(&KafkaConfig) -> KafkaResult<T> + Send + Sync>;

/// A client that is made anew when its files have changed.
pub struct Renewed<T> {
    config: KafkaConfig,
    make: Make<T>,
    current: Mutex<(Arc<T>, Watched)>,
}

impl<T: Send + Sync + 'static> Renewed<T> {
    /// Makes it.
    pub fn new(
        config: &KafkaConfig,
        make: impl Fn(&KafkaConfig) -> KafkaResult<T> + Send + Sync + 'static,
    ) -> KafkaResult<Self> {
        let files = files(config);
        let current = Mutex::new((Arc::new(make(config)?), files));
        Ok(Self { config: config.clone(), make: Box::new(make), current })
    }

    /// The one to be used now. Who uses one before it goes on with that to the end.
    pub fn get(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.have_changed() {
            match (self.make)(&self.config) {
                Ok(new) => {
                    tracing::info!("files of kafka.properties have changed: a client was made anew with them");
                    retire(std::mem::replace(&mut current.0, Arc::new(new)));
                }
                Err(error) => tracing::error!(%error, "files of kafka.properties have changed, and can't be used"),
            }
            current.1.use_now();
        }
        current.0.clone()
    }

    /// Makes a new one instead of this one, which has failed for good; unless others that failed with it have done so.
    pub fn replace(&self, failed: &Arc<T>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current.0, failed) {
            return;
        }
        match (self.make)(&self.config) {
            Ok(new) => retire(std::mem::replace(&mut current.0, Arc::new(new))),
            Err(error) => tracing::error!(%error, "can't make a client"),
        }
    }
}

/// A client's end waits for its threads: not on one of ours.
fn retire<T: Send + Sync + 'static>(old: Arc<T>) {
    std::thread::spawn(move || drop(old));
}
