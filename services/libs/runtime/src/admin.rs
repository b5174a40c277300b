//! The admin port: plain HTTP with health, readiness, metrics, and what of telemetry can be changed. Not for the public.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::StatusCode,
    routing::get,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    health::Health,
    telemetry::{Dials, Metrics},
};

/// Where the admin port listens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdminConfig {
    /// Address and port of health and metrics, plain HTTP: not for the public. Each process on a machine needs its own. What of telemetry can
    /// be changed is so from the process's own machine, or pod, only.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// Serves `/livez`, `/readyz`, `/metrics`, `/telemetry/filter` and `/telemetry/trace_ratio` until `stop`. Returns the address it listens on.
pub async fn serve(
    config: &AdminConfig,
    health: Health,
    metrics: Metrics,
    dials: Dials,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        // Alive means that this answers; it never depends on the log or the store.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(text).with_state(metrics))
        .route("/telemetry/filter", get(filter).put(set_filter))
        .route("/telemetry/trace_ratio", get(trace_ratio).put(set_trace_ratio))
        .with_state(dials);
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(address)
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    let problems = health.problems();
    if problems.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    let lines = problems.into_iter().map(|(name, reason)| format!("{name}: {reason}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

/// Disks are asked how full they are, and one that hangs must not hold up what else is answered.
async fn text(State(metrics): State<Metrics>) -> Result<String, StatusCode> {
    spawn_blocking(move || metrics.text()).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn filter(State(dials): State<Dials>) -> String {
    format!("{}\n", dials.now().0)
}

async fn set_filter(
    State(dials): State<Dials>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    wanted: String,
) -> (StatusCode, String) {
    change(from, || dials.set_filter(wanted.trim()))
}

async fn trace_ratio(State(dials): State<Dials>) -> String {
    format!("{}\n", dials.now().1)
}

async fn set_trace_ratio(
    State(dials): State<Dials>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    wanted: String,
) -> (StatusCode, String) {
    let ratio = wanted.trim().parse::<f64>().map_err(|error| anyhow::anyhow!("expected 0 to 1: {error}"));
    change(from, || dials.set_trace_ratio(ratio?))
}

/// Whoever can read metrics may be many; whoever may silence logs is on this machine.
fn change(from: SocketAddr, change: impl FnOnce() -> anyhow::Result<()>) -> (StatusCode, String) {
    if !from.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "this is changed from the process's own machine or pod only\n".into());
    }
    match change() {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")),
    }
}
