//! The registry on Kafka, S3 and PostgreSQL.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use caselock_log::LogError;
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_registry::{RegistryConfig, RegistryContext, run_audit, run_rebuild};
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
use clap::{Parser, Subcommand};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The audit found something.
const WRONG: u8 = 3;

/// Knows what is stored, and can be rebuilt from the store alone.
#[derive(Parser)]
#[command(name = "caselock-registry", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the state anew. Stopped at any point, it goes on where it was when it is called again.
    Rebuild {
        /// From the documents in the store: nothing else is needed.
        #[arg(long, required = true)]
        from_store: bool,
    },
    /// Compares, for every recording and every record of a case, what the rule says with what the store says, and looks for
    /// what nobody knows. Exit codes: 0 nothing is wrong; 1 it could not be done; 3 something is wrong.
    Audit {
        /// Prints one JSON object for each, right or wrong, and one with the sums at the end.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    registry: RegistryConfig,
    kafka: KafkaConfig,
    s3: S3Config,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

caselock_runtime::common_config!(Config; registry, kafka, s3);

fn main() -> anyhow::Result<ExitCode> {
    service::main(run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        None => service::run("caselock-registry", &arguments.flags, serve).await?,
        Some(Command::Rebuild { from_store }) => {
            ensure!(from_store, "say what from: --from-store");
            let config: Config = arguments.flags.for_a_command()?.load()?;
            config.s3.check()?;
            run_rebuild(&config.registry, S3Store::open(&config.s3).await, system_clock()).await?;
        }
        Some(Command::Audit { json }) => {
            let config: Config = arguments.flags.for_a_command()?.load()?;
            config.s3.check()?;
            let store = S3Store::open(&config.s3).await;
            if !run_audit(&config.registry, store, system_clock(), json).await? {
                return Ok(ExitCode::from(WRONG));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let open = || KafkaLog::open(&config.kafka);
    let log = until_there("connect-log", &health, LogError::is_retryable, open).await.context("connect to Kafka")?;
    let store = Metered::new(S3Store::open(&config.s3).await);
    let context = RegistryContext { log, store, clock: system_clock(), health: health.clone(), stop };
    let registry = caselock_registry::start(&config.registry, context).await?;
    health.started();
    registry.stopped().await
}
