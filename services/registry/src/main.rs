//! The registry on Kafka, S3 and PostgreSQL.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, ensure};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_registry::{Cases, Db, Finding, Line, RegistryConfig, RegistryContext, Summary};
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
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => service::run("caselock-registry", &arguments.flags, serve).await?,
        Some(Command::Rebuild { from_store }) => {
            ensure!(from_store, "say what from: --from-store");
            rebuild(arguments.flags.load()?).await?;
        }
        Some(Command::Audit { json }) => return audit(arguments.flags.load()?, json).await,
    }
    Ok(ExitCode::SUCCESS)
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
    let rules = Arc::new(config.registry.rules()?);
    let cases = Cases::new(db, store, system_clock(), rules, config.registry.periods()?.rolling.to);
    let count = caselock_registry::rebuild(&cases).await?;
    println!("{count} recordings were read from the store");
    Ok(())
}

async fn audit(config: Config, json: bool) -> anyhow::Result<ExitCode> {
    config.registry.check()?;
    let db = Db::open(&config.registry.database).await.context("open the registry's database")?;
    let store = S3Store::open(&config.s3).await;
    let rolling = config.registry.periods()?.rolling;
    let rules = Arc::new(config.registry.rules()?);
    let cases = Cases::new(db, store, system_clock(), rules, rolling.to);
    let summary = caselock_registry::audit(&cases, &rolling, |line| show(line, json)).await?;
    if json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        let Summary { subjects, with_findings, under_retained } = summary;
        println!("{subjects} compared, {with_findings} with something wrong, {under_retained} under-retained");
    }
    Ok(if summary.with_findings == 0 { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

/// To people only what is wrong is told.
fn show(line: &Line, json: bool) {
    if json {
        // All its fields are plain: it can't fail.
        println!("{}", serde_json::to_string(line).unwrap_or_default());
        return;
    }
    for Finding { finding, key } in &line.findings {
        let wanted = line.rule.as_ref().map(|rule| format!(": the rule says {} by {}", rule.until, rule.because));
        let found = line.locked_until.map(|until| format!(", the store {until}"));
        println!("{finding:?}  {key}{}{}", wanted.unwrap_or_default(), found.unwrap_or_default());
    }
}
