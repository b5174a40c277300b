//! The gateway on Kafka.

use anyhow::Context;
use caselock_gateway::{GatewayConfig, GatewayContext};
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
use clap::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes footage from bureaus over gRPC and puts it into Kafka.
#[derive(Parser)]
#[command(name = "caselock-gateway", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    gateway: GatewayConfig,
    kafka: KafkaConfig,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

caselock_runtime::common_config!(Config; gateway, kafka);

fn main() -> anyhow::Result<()> {
    service::main(service::run("caselock-gateway", &Arguments::parse().flags, serve))
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let open = || KafkaLog::open(&config.kafka);
    let log = until_there("connect-log", &health, LogError::is_retryable, open).await.context("connect to Kafka")?;
    let context =
        GatewayContext { log, clock: system_clock(), nonce: rand::random::<[u8; 16]>, health: health.clone(), stop };
    let gateway = caselock_gateway::start(config.gateway, context).await?;
    health.started();
    tracing::info!(address = %gateway.address, "serving");
    gateway.stopped().await
}
