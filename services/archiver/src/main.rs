//! The archiver on Kafka and S3.

use anyhow::Context;
use caselock_archiver::{ArchiverConfig, ArchiverContext};
use caselock_log::LogError;
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_runtime::{
    Flags,
    admin::AdminConfig,
    clock::system_clock,
    retry::until_there,
    service::{self, Running},
    telemetry::TelemetryConfig,
};
use caselock_store::Metered;
use caselock_store_s3::{S3Config, S3Store};
use clap::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes segments out of Kafka, makes each recording one locked object in S3, and signs its receipt.
#[derive(Parser)]
#[command(name = "caselock-archiver", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    archiver: ArchiverConfig,
    kafka: KafkaConfig,
    s3: S3Config,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

caselock_runtime::common_config!(Config; archiver, kafka, s3);

fn main() -> anyhow::Result<()> {
    service::main(service::run("caselock-archiver", &Arguments::parse().flags, serve))
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let open = || KafkaLog::open(&config.kafka);
    let log = until_there("connect-log", &health, LogError::is_retryable, open).await.context("connect to Kafka")?;
    let store = Metered::new(S3Store::open(&config.s3).await);
    let nonce = rand::random::<[u8; 16]>;
    let context = ArchiverContext { log, store, clock: system_clock(), nonce, health: health.clone(), stop };
    let archiver = caselock_archiver::start(config.archiver, context).await?;
    health.started();
    archiver.stopped().await
}
