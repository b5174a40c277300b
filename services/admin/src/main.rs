//! `caselock-admin`: what operators need by hand.

mod bucket;
mod compare;
mod dead_letters;
mod events;
mod smoke;
mod topics;
mod uploads;

use std::process::ExitCode;

use caselock_log_kafka::KafkaConfig;
use caselock_runtime::Layers;
use caselock_store_s3::S3Config;
use clap::{Parser, Subcommand};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What operators of Caselock need by hand. Settings are given as to the services, whose own may be given as they are: of them the sections
/// `kafka` and `s3` are used.
///
/// Exit codes: 0 it is done, or as it must be; 1 it could not be done, or is not as it must be; 3 `compare` found something.
#[derive(Parser)]
#[command(name = "caselock-admin", version)]
struct Arguments {
    #[command(flatten)]
    layers: Layers,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The topics: makes those that are missing, and says of each whether it is as it must be.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Uploads, as the log's facts say them.
    #[command(subcommand)]
    Uploads(uploads::Command),
    /// Dead letters: what could not be used, and what was decided about it.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// The public events: shown, or told once more.
    #[command(subcommand)]
    Events(events::Command),
    /// Compares the log with the store: for every recording that the log has a receipt of, object, lock, manifest and event. What the
    /// registry knows is compared with the store by `caselock-registry audit`.
    Compare,
    /// Checks that the bucket keeps locks, holds and checksums, on an object of its own that is locked for 15 minutes: what an archiver
    /// checks at its start. And that no lifecycle rule of it removes footage.
    CheckBucket,
    /// Uploads a small recording through a gateway, waits for its receipt, and reads its lock in the store. It stays there for six months.
    Smoke(smoke::Smoke),
}

/// Something is not as it must be.
const WRONG: u8 = 3;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    kafka: KafkaConfig,
    s3: S3Config,
    /// A service's own: its settings can be given as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archiver: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    telemetry: Option<serde_json::Value>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { layers, command } = Arguments::parse();
    let config: Config = layers.load()?;
    config.kafka.check()?;
    if let Command::Compare | Command::CheckBucket | Command::Smoke(_) = command {
        config.s3.check()?;
    }
    // What Kafka's and the store's clients have to say.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).compact().init();
    match command {
        Command::Topics(command) => topics::run(&config.kafka, &command).await?,
        Command::Uploads(command) => uploads::run(&config.kafka, &command).await?,
        Command::DeadLetters(command) => dead_letters::run(&config.kafka, &command).await?,
        Command::Events(command) => events::run(&config.kafka, &command).await?,
        Command::Compare if !compare::run(&config.kafka, &config.s3).await? => return Ok(ExitCode::from(WRONG)),
        Command::Compare => {}
        Command::CheckBucket => bucket::check(&config.s3).await?,
        Command::Smoke(smoke) => smoke::run(&config.s3, &smoke).await?,
    }
    Ok(ExitCode::SUCCESS)
}
