use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use caselock_domain::time::Clock;
use caselock_front::{Budget, Reasons, accept, health as grpc_health};
use caselock_log::{Log, LogError, Topic};
use caselock_proto::v1::registry_service_server::RegistryServiceServer;
use caselock_runtime::{health::Health, retry::until_there};
use caselock_store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    Cases, Db, Disposer, Following, Judge, Keeper, Outbox, RegistryConfig, RegistryError,
    api::{Api, ApiServer},
    gauges::Gauges,
    rebuild,
};

/// How long calls may take to end once the registry stops.
const DRAIN: Duration = Duration::from_secs(20);
/// The share of the connections one bureau may have.
const SHARE_PERCENT: u8 = 60;
/// Messages are small, but a page of recordings with all their metadata.
const WINDOW: u32 = 256 << 10;

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
pub struct Registry {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Registry {
    /// Waits until it has stopped.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.task.await.context("join the registry")?
    }
}

/// Opens the database; follows the events, keeps the locks and answers until `context.stop`, once it is the only one that
/// does.
pub async fn start(config: &RegistryConfig, context: RegistryContext) -> anyhow::Result<Registry> {
    ensure!(!config.database.is_empty(), "registry.database is needed");
    let RegistryContext { log, store, clock, health, stop } = context;
    let (door, periods) = (config.door()?, config.periods()?);
    for topic in [Topic::Events, Topic::Uploads] {
        let checked = until_there("check-topic", &health, LogError::is_retryable, || log.check(topic)).await;
        checked.with_context(|| format!("check {topic}"))?;
    }
    let opened =
        until_there("open-database", &health, RegistryError::is_away, || Db::open(config.database.clone())).await;
    let db = opened.context("open the registry's database")?;
    let rules = Arc::new(config.rules()?);
    let cases = Cases::new(db.clone(), store, clock.clone(), rules.clone(), periods.rolling.to);
    let following = Arc::new(Following::new(cases.clone(), log.clone()));
    let keeper = Keeper::new(cases.clone(), following.clone(), periods.rolling, config.pace);
    let outbox = Outbox::new(db.clone(), log.clone());
    let gauges = Gauges { db: db.clone(), log: log.clone(), clock: clock.clone(), rules: rules.clone() };
    let disposer = Disposer::new(cases.clone(), following.clone(), keeper.clone(), outbox.clone(), log);
    let judge =
        Judge { db: db.clone(), following: following.clone(), outbox: outbox.clone(), clock: clock.clone(), rules };
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let api = Api {
        cases: cases.clone(),
        following: following.clone(),
        keeper: keeper.clone(),
        disposer: disposer.clone(),
        periods,
        clock,
        bureaus_close_cases: config.bureaus_close_cases,
        bureaus_extend_deadlines: config.bureaus_extend_deadlines,
    };
    health.expect("registry-lead");
    let (reporter, health_service) = tonic_health::server::health_reporter();
    tokio::spawn(grpc_health::report::<RegistryServiceServer<ApiServer>>(reporter, health.clone(), stop.clone()));
    let router = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(Some(64))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(Reasons::default())
        .add_service(RegistryServiceServer::new(ApiServer::new(api)))
        .add_service(health_service)
        .add_optional_service(grpc_health::reflection(config.reflection)?);
    let room = Budget::new(config.connections, 1, SHARE_PERCENT);
    let task = tokio::spawn(async move {
        let Some(lead) = stop.run_until_cancelled(db.lead()).await else { return Ok(()) };
        let lost = lead.context("ask whether another registry works on the database")?.lost();
        health.up("registry-lead");
        // Before anything is read: by what is not known yet nothing is loosened.
        rebuild::begin_where_needed(&cases).await.context("look whether the database must be rebuilt")?;
        let incoming = accept(listener, door, room, stop.clone());
        let work = async {
            let served = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
            let follow = following.clone().run(health, stop.clone());
            let (published, judged) = (outbox.run(following, stop.clone()), judge.run(stop.clone()));
            let (kept, disposed) = (keeper.run(stop.clone()), disposer.run(stop.clone()));
            let (rebuilt, told) = (rebuild::go_on(cases, stop.clone()), gauges.run(stop.clone()));
            tokio::join!(served, follow, kept, disposed, published, judged, rebuilt, told).0.context("serve")
        };
        tokio::select! {
            done = work => done,
            error = lost => Err(error.into()),
            // Whoever holds a connection open longer is cut off.
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    });
    Ok(Registry { address, task })
}
