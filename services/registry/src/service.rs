use std::sync::Arc;

use anyhow::{Context, ensure};
use caselock_domain::time::Clock;
use caselock_log::{Log, Topic};
use caselock_runtime::health::Health;
use caselock_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Cases, Db, Following, Keeper, RegistryConfig};

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
pub struct Registry(JoinHandle<anyhow::Result<()>>);

impl Registry {
    /// Waits until it has stopped.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.0.await.context("join the registry")?
    }
}

/// Opens the database; follows the events and keeps the locks until `context.stop`, once it is the only one that does.
pub async fn start(config: &RegistryConfig, context: RegistryContext) -> anyhow::Result<Registry> {
    ensure!(!config.database.is_empty(), "registry.database is needed");
    let RegistryContext { log, store, clock, health, stop } = context;
    log.check(Topic::Events).await.context("check the topic of the events")?;
    let periods = config.periods()?;
    let db = Db::open(&config.database).await.context("open the registry's database")?;
    let cases = Cases::new(db.clone(), store.clone(), clock, periods.rolling.to);
    let following = Following { db: db.clone(), log, store };
    let keeper = Keeper::new(cases, Arc::new(following.clone()), periods.rolling, config.pace);
    health.expect("registry-lead");
    Ok(Registry(tokio::spawn(async move {
        let Some(lead) = stop.run_until_cancelled(db.lead()).await else { return Ok(()) };
        let lost = lead.context("ask whether another registry works on the database")?.lost();
        health.up("registry-lead");
        let work = async { tokio::join!(following.run(health, stop.clone()), keeper.run(stop.clone())) };
        tokio::select! {
            _ = work => Ok(()),
            error = lost => Err(error.into()),
        }
    })))
}
