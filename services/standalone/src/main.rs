//! All of Caselock in one process: the same services as in production, on a log in one file and objects in a directory.

use std::path::PathBuf;

use anyhow::Context;
use caselock_archiver::{ArchiverConfig, ArchiverContext};
use caselock_domain::time::system_clock;
use caselock_gateway::{GatewayConfig, GatewayContext};
use caselock_log::embedded::EmbeddedLog;
use caselock_runtime::{Flags, admin, admin::AdminConfig, health::Health, shutdown, telemetry};
use caselock_store::fs::FsStore;
use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// All of Caselock in one process, on a log in one file and objects in a directory.
#[derive(Parser)]
#[command(name = "caselock-standalone", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    standalone: StandaloneConfig,
    gateway: GatewayConfig,
    archiver: ArchiverConfig,
    admin: AdminConfig,
    telemetry: telemetry::TelemetryConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct StandaloneConfig {
    /// Where the log and the store lie.
    data: PathBuf,
}

impl Default for StandaloneConfig {
    fn default() -> Self {
        Self { data: PathBuf::from("caselock-data") }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config: Config = arguments.flags.load()?;
    if arguments.flags.check_config {
        return Ok(());
    }
    let telemetry = telemetry::start("caselock-standalone", &config.telemetry)?;
    let stop = shutdown::on_signal()?;
    let served = serve(config, &telemetry, stop).await;
    telemetry.finish();
    served
}

async fn serve(config: Config, telemetry: &telemetry::Telemetry, stop: CancellationToken) -> anyhow::Result<()> {
    let data = &config.standalone.data;
    std::fs::create_dir_all(data).with_context(|| format!("create {}", data.display()))?;
    let (clock, nonce) = (system_clock(), rand::random::<[u8; 16]> as fn() -> _);
    let log = EmbeddedLog::open(&data.join("log.redb")).context("open the log")?;
    let store = FsStore::open(data.join("store"), clock.clone()).context("open the store")?;
    let health = Health::default();
    let admin = admin::serve(&config.admin, health.clone(), telemetry.metrics.clone(), stop.clone()).await?;
    // The archiver goes on until the gateway has drained: what is acknowledged last is still worked on.
    let archiver_stop = CancellationToken::new();
    let archiver = caselock_archiver::start(
        config.archiver,
        ArchiverContext {
            log: log.clone(),
            store,
            clock: clock.clone(),
            nonce,
            health: health.clone(),
            stop: archiver_stop.clone(),
        },
    )
    .await?;
    let context = GatewayContext { log, clock, nonce, health, stop };
    let gateway = caselock_gateway::start(config.gateway, context).await?;
    tracing::info!(gateway = %gateway.address, %admin, data = %data.display(), "serving");
    let served = gateway.stopped().await;
    archiver_stop.cancel();
    archiver.stopped().await?;
    served
}
