//! The admin port: plain HTTP with health, readiness and metrics. Not for the public.

use std::net::SocketAddr;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{health::Health, telemetry::Metrics};

/// Where the admin port listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop`. Returns the address it listens on.
pub async fn serve(
    config: &AdminConfig,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        // Alive means that this answers; it never depends on the log or the store.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(|State(metrics): State<Metrics>| async move { metrics.text() }).with_state(metrics));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
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
