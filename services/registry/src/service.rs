use std::sync::Arc;

use anyhow::Context;
use caselock_domain::time::Clock;
use caselock_log::{Log, Topic};
use caselock_runtime::health::Health;
use caselock_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Cases, Db, Following, RegistryConfig};

/// What the registry works with.
pub struct RegistryContext {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// To be told when it is ready.
    pub health: Health,
    /// Ends it.
    pub stop: CancellationToken,
}

/// A registry that is running.
pub struct Registry(JoinHandle<()>);

impl Registry {
    /// Waits until it has stopped.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.0.await.context("join the registry")
    }
}

/// Opens the database and follows the events until `context.stop`.
pub async fn start(config: &RegistryConfig, context: RegistryContext) -> anyhow::Result<Registry> {
    let RegistryContext { log, store, clock, health, stop } = context;
    log.check(Topic::Events).await.context("check the topic of the events")?;
    let db = Db::open(&config.database).await.context("open the registry's database")?;
    let cases = Cases { db: db.clone(), store: store.clone(), clock };
    cases.recover().await.context("look for entries of cases that were not noted")?;
    Ok(Registry(tokio::spawn(Following { db, log, store }.run(health, stop))))
}
