//! `caselock-admin`: what operators need by hand.

mod bucket;
mod smoke;
mod topics;

use caselock_log_kafka::KafkaConfig;
use caselock_runtime::Flags;
use caselock_store_s3::S3Config;
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// What operators of Caselock need by hand. Settings (the sections `kafka` and `s3`) are given as to the services.
///
/// Exit codes: 0 it is done, or as it must be; 1 otherwise.
#[derive(Parser)]
#[command(name = "caselock-admin", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The topics: makes those that are missing, and says of each whether it is as it must be.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Checks that the bucket keeps locks, holds and checksums, on an object of its own that is locked for 15 minutes: what an archiver
    /// checks at its start.
    CheckBucket,
    /// Uploads a small recording through a gateway, waits for its receipt, and reads its lock in the store. It stays there for six months.
    Smoke(smoke::Smoke),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    kafka: KafkaConfig,
    s3: S3Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { flags, command } = Arguments::parse();
    let config: Config = flags.load()?;
    config.kafka.check()?;
    match command {
        Command::Topics(command) => topics::run(&config.kafka, &command).await,
        Command::CheckBucket => bucket::check(&config.s3).await,
        Command::Smoke(smoke) => smoke::run(&config.s3, &smoke).await,
    }
}
