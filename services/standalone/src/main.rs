//! All of Caselock in one process: the same services as in production, on a log in one file and objects in a directory.

mod show;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, ensure};
use caselock_archiver::{ArchiverConfig, ArchiverContext};
use caselock_gateway::{GatewayConfig, GatewayContext};
use caselock_log::embedded::EmbeddedLog;
use caselock_media::{MediaConfig, MediaContext};
use caselock_registry::{RegistryConfig, RegistryContext, run_audit, run_rebuild};
use caselock_runtime::{
    Flags,
    admin::AdminConfig,
    clock::system_clock,
    disk,
    health::Health,
    service::{self, Common, Running},
    telemetry::TelemetryConfig,
};
use caselock_store::{Metered, fs::FsStore};
use clap::{Parser, Subcommand};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// All of Caselock in one process, on a log in one file and objects in a directory.
#[derive(Parser)]
#[command(name = "caselock-standalone", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what lies in the store: a table of the recordings, with their cases, deadlines, locks and files.
    Show(show::Show),
    /// Compares, for every recording and every record of a case, what the rule says with what the store says, and looks for
    /// what nobody knows. The process must be stopped. Exit codes: 0 nothing is wrong; 1 it could not be done; 3 something is
    /// wrong.
    Audit {
        /// The data folder of the process; by default what the settings say.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints one JSON object for each, right or wrong, and one with the sums at the end.
        #[arg(long)]
        json: bool,
    },
    /// Reads the registry's state anew from the documents in the store. The process must be stopped.
    Rebuild {
        /// The data folder of the process; by default what the settings say.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// From the documents in the store: nothing else is needed.
        #[arg(long, required = true)]
        from_store: bool,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    standalone: StandaloneConfig,
    gateway: GatewayConfig,
    archiver: ArchiverConfig,
    media: MediaConfig,
    registry: RegistryConfig,
    admin: AdminConfig,
    telemetry: TelemetryConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct StandaloneConfig {
    /// The folder of the log, the store and the registry's database.
    data: PathBuf,
}

impl Default for StandaloneConfig {
    fn default() -> Self {
        Self { data: PathBuf::from("caselock-data") }
    }
}

impl Config {
    /// The settings, with this data folder where one is named.
    fn with_data(mut self, data: Option<PathBuf>) -> Self {
        self.standalone.data = data.unwrap_or(self.standalone.data);
        self
    }

    /// The store that is in the data folder, which belongs to one process at a time. None is made.
    fn store(&self) -> anyhow::Result<Arc<FsStore>> {
        let data = self.standalone.data.display();
        ensure!(self.standalone.data.join("store").is_dir(), "there is no store in {data}: name the folder by --data");
        FsStore::open(self.standalone.data.join("store"), system_clock()).context("open the store")
    }

    /// The registry's settings: what is not said of its database and its door is beside the log, and as at the gateway.
    fn registry(&self) -> RegistryConfig {
        let mut registry = self.registry.clone();
        if registry.database.is_empty() {
            let file = self.standalone.data.join("registry.sqlite");
            registry.database = format!("sqlite:{}?mode=rwc", file.display()).into();
        }
        if registry.tls.is_none() && registry.plaintext_bureau.is_none() {
            registry.tls.clone_from(&self.gateway.tls);
            registry.plaintext_bureau.clone_from(&self.gateway.plaintext_bureau);
        }
        registry
    }
}

impl Common for Config {
    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn check(&self) -> anyhow::Result<()> {
        self.gateway.check()?;
        self.archiver.check()?;
        self.media.check()?;
        self.registry().check()?;
        self.telemetry.check()
    }
}

/// The audit found something.
const WRONG: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    service::main(run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        None => service::run("caselock-standalone", &arguments.flags, serve).await?,
        Some(Command::Show(show)) => show::run(&show).await?,
        Some(Command::Audit { data, json }) => {
            let config = arguments.flags.for_a_command()?.load::<Config>()?.with_data(data);
            if !run_audit(&config.registry(), config.store()?, system_clock(), json).await? {
                return Ok(ExitCode::from(WRONG));
            }
        }
        Some(Command::Rebuild { data, from_store }) => {
            ensure!(from_store, "say what from: --from-store");
            let config = arguments.flags.for_a_command()?.load::<Config>()?.with_data(data);
            run_rebuild(&config.registry(), config.store()?, system_clock()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, running: Running) -> anyhow::Result<()> {
    let Running { health, stop } = running;
    let registry = config.registry();
    let data = &config.standalone.data;
    std::fs::create_dir_all(data).with_context(|| format!("create {}", data.display()))?;
    let (clock, nonce) = (system_clock(), rand::random::<[u8; 16]> as fn() -> _);
    let log = EmbeddedLog::open(&data.join("log.redb")).context("open the log")?;
    let store = Metered::new(FsStore::open(data.join("store"), clock.clone()).context("open the store")?);
    disk::observe("data", data.clone());
    // Archiver and media go on until the gateway has drained: what is acknowledged last is still worked on.
    let work_stop = CancellationToken::new();
    let archiver = caselock_archiver::start(
        config.archiver,
        ArchiverContext {
            log: log.clone(),
            store: store.clone(),
            clock: clock.clone(),
            nonce,
            health: health.clone(),
            stop: work_stop.clone(),
        },
    )
    .await?;
    let context = MediaContext {
        log: log.clone(),
        store: store.clone(),
        clock: clock.clone(),
        health: health.clone(),
        stop: work_stop.clone(),
    };
    let media = caselock_media::start(config.media, context).await?;
    // Nobody's upload waits for the registry: it has a health of its own.
    let context = RegistryContext {
        log: log.clone(),
        store,
        clock: clock.clone(),
        health: Health::default(),
        stop: work_stop.clone(),
    };
    let registry = caselock_registry::start(&registry, context).await?;
    let failing = log.clone();
    let context = GatewayContext { log, clock, nonce, health: health.clone(), stop };
    let gateway = caselock_gateway::start(config.gateway, context).await?;
    health.started();
    tracing::info!(gateway = %gateway.address, data = %data.display(), "serving");
    let served = tokio::select! {
        served = gateway.stopped() => served,
        () = failing.failed() => anyhow::bail!("the log's file failed: whoever starts this program should start it again"),
    };
    work_stop.cancel();
    archiver.stopped().await?;
    media.stopped().await?;
    registry.stopped().await?;
    served
}
