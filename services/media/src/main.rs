//! The media service on Kafka and S3.

use anyhow::Context;
use caselock_log::LogError;
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_media::{MediaConfig, MediaContext};
use caselock_runtime::{
    Flags,
    admin::AdminConfig,
    clock::system_clock,
    disk,
    retry::until_there,
    service::{self, Running},
    telemetry::TelemetryConfig,
};
use caselock_store::Metered;
use caselock_store_s3::{S3Config, S3Store};
use clap::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reads stored originals back whole, digests them, and makes proxies and pictures.
#[derive(Parser)]
#[command(name = "caselock-media", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    media: MediaConfig,
    kafka: KafkaConfig,
    s3: S3Config,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

caselock_runtime::common_config!(Config; media, kafka, s3);

fn main() -> anyhow::Result<()> {
    service::main(service::run("caselock-media", &Arguments::parse().flags, serve))
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let open = || KafkaLog::open(&config.kafka);
    let log = until_there("connect-log", &health, LogError::is_retryable, open).await.context("connect to Kafka")?;
    let store = Metered::new(S3Store::open(&config.s3).await);
    let context = MediaContext { log, store, clock: system_clock(), health: health.clone(), stop };
    disk::observe("scratch", config.media.scratch());
    let media = caselock_media::start(config.media, context).await?;
    health.started();
    media.stopped().await
}
