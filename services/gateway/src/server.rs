//! The server: connections, TLS, the services, and the orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use caselock_domain::{fact::Nonce, reason::Reason, time::Clock};
use caselock_front::{Budget, Reasons, accept, health as grpc_health};
use caselock_log::{Log, LogError, Topic};
use caselock_proto::v1::ingest_service_server::IngestServiceServer;
use caselock_runtime::{health::Health, retry::until_there};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::{
    admission::Admission,
    config::{CALLS, CONNECTION_WINDOW, FRAME, GatewayConfig, MESSAGE, STREAM_WINDOW},
    ingest::{Ingest, IngestServer},
    metrics::{self, GatewayMetrics},
    view::View,
};

/// How long connections may take to end once the gateway drains: longer than any segment may take then.
const DRAIN: Duration = Duration::from_secs(45);
/// How long a call may take until its answer, or its stream of answers, begins.
const CALL: Duration = Duration::from_secs(60);

/// What a gateway is built on.
pub struct GatewayContext {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The clock.
    pub clock: Clock,
    /// Draws 16 random bytes.
    pub nonce: fn() -> Nonce,
    /// Told when the gateway is ready, and when not any more.
    pub health: Health,
    /// Cancelled to make it drain.
    pub stop: CancellationToken,
}

/// A gateway that is serving.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Gateway {
    /// Waits until it has stopped: after the token was cancelled and the open streams have ended.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.task.await.context("join the gateway")?.context("serve")
    }
}

/// Checks the topics' settings, then serves until `context.stop`.
pub async fn start(config: GatewayConfig, context: GatewayContext) -> anyhow::Result<Gateway> {
    let GatewayContext { log, clock, nonce, health, stop } = context;
    let door = config.door()?;
    for topic in [Topic::Footage, Topic::Uploads] {
        let checked = until_there("check-topic", &health, LogError::is_retryable, || log.check(topic)).await;
        checked.with_context(|| format!("check {topic}"))?;
    }
    if log.partitions(Topic::Footage) != log.partitions(Topic::Uploads) {
        bail!("footage and uploads have different partition counts: they must agree");
    }
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    // The view lives on while the open streams and calls end.
    let view_stop = CancellationToken::new();
    let view = View::start(log.clone(), health.clone(), view_stop.clone());
    let ingest = Arc::new(Ingest {
        admission: Admission::new(
            config.memory_budget.saturating_sub(config.set_aside()),
            config.streams,
            config.bureau_share_percent,
        ),
        metrics: GatewayMetrics::new(),
        drain: stop.clone(),
        config: config.clone(),
        log,
        view,
        clock,
        nonce,
    });
    metrics::observe(&ingest);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    tokio::spawn(grpc_health::report::<IngestServiceServer<IngestServer>>(reporter, health, stop.clone()));
    let service = IngestServiceServer::new(IngestServer(ingest)).max_decoding_message_size(MESSAGE);
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(Some(FRAME))
        .max_concurrent_streams(Some(256))
        .layer(Reasons::within(CALL, Reason::LogUnavailable))
        .layer(GlobalConcurrencyLimitLayer::new(CALLS))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .add_service(health_service)
        .add_optional_service(grpc_health::reflection(config.reflection)?);
    let room = Budget::new(config.connections, 1, config.bureau_share_percent);
    let incoming = accept(listener, door, room, stop.clone());
    let served = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let task = tokio::spawn(async move {
        let _view = view_stop.drop_guard();
        tokio::select! {
            served = served => served,
            // Whoever holds a connection open longer is cut off.
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    });
    Ok(Gateway { address, task })
}
