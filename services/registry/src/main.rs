//! The registry on Kafka, S3 and PostgreSQL.

use anyhow::{Context, ensure};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_registry::{Cases, Db, RegistryConfig, RegistryContext};
use caselock_runtime::{
    Flags,
    admin::AdminConfig,
    clock::system_clock,
    service::{self, Running},
    telemetry::TelemetryConfig,
};
use caselock_store_s3::{S3Config, S3Store};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

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
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    registry: RegistryConfig,
    kafka: KafkaConfig,
    s3: S3Config,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

caselock_runtime::common_config!(Config; registry, kafka);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => service::run("caselock-registry", &arguments.flags, serve).await,
        Some(Command::Rebuild { from_store }) => {
            ensure!(from_store, "say what from: --from-store");
            rebuild(arguments.flags.load()?).await
        }
    }
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let log = KafkaLog::open(&config.kafka).await.context("connect to Kafka")?;
    let store = S3Store::open(&config.s3).await;
    let context = RegistryContext { log, store, clock: system_clock(), health: health.clone(), stop };
    let registry = caselock_registry::start(&config.registry, context).await?;
    health.started();
    registry.stopped().await
}

async fn rebuild(config: Config) -> anyhow::Result<()> {
    config.registry.check()?;
    let db = Db::open(&config.registry.database).await.context("open the registry's database")?;
    let _lead = db.lead().await.context("wait until no other registry works on the database")?;
    let store = S3Store::open(&config.s3).await;
    let cases = Cases::new(db, store, system_clock(), config.registry.periods()?.rolling.to);
    let count = caselock_registry::rebuild(&cases).await?;
    println!("{count} recordings were read from the store");
    Ok(())
}
