//! What every program does before and after its work.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::{
    Flags,
    admin::{self, AdminConfig},
    health::Health,
    shutdown,
    telemetry::{self, TelemetryConfig},
};

/// What a program's work is given.
pub struct Running {
    /// To be told when it is ready, and when not.
    pub health: Health,
    /// Cancelled by the first SIGTERM or SIGINT.
    pub stop: CancellationToken,
}

/// The parts of a configuration that every program has.
pub trait Common {
    /// Where the admin port listens.
    fn admin(&self) -> &AdminConfig;
    /// What is told, and to whom.
    fn telemetry(&self) -> &TelemetryConfig;
    /// Checks what the types of the values leave open. The error names the key.
    fn check(&self) -> anyhow::Result<()>;
}

/// Loads the configuration, starts telemetry and the admin port, does the work, and sends the last telemetry. With
/// `--check-config` it ends once the configuration was read.
pub async fn run<C, F>(name: &'static str, flags: &Flags, work: impl FnOnce(C, Running) -> F) -> anyhow::Result<()>
where
    C: Common + DeserializeOwned + Serialize + Default,
    F: Future<Output = anyhow::Result<()>>,
{
    let config: C = flags.load()?;
    config.check()?;
    if flags.check_config {
        return Ok(());
    }
    let telemetry = telemetry::start(name, config.telemetry())?;
    let (health, stop) = (Health::default(), shutdown::on_signal()?);
    // It goes on answering while the work drains, and says so.
    let admin_stop = CancellationToken::new();
    let admin = admin::serve(config.admin(), health.clone(), telemetry.metrics.clone(), admin_stop.clone()).await?;
    tracing::info!(%admin, "the admin port answers");
    let draining = health.clone();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        draining.down("draining", "the service is stopping");
    });
    let worked = work(config, Running { health, stop }).await;
    admin_stop.cancel();
    telemetry.finish();
    worked
}

/// Implements [`Common`] for a configuration with the fields `admin` and `telemetry`, and sections that check themselves.
#[macro_export]
macro_rules! common_config {
    ($config:ty; $($section:ident),*) => {
        impl $crate::service::Common for $config {
            fn admin(&self) -> &$crate::admin::AdminConfig {
                &self.admin
            }

            fn telemetry(&self) -> &$crate::telemetry::TelemetryConfig {
                &self.telemetry
            }

            fn check(&self) -> anyhow::Result<()> {
                $(self.$section.check()?;)*
                self.telemetry.check()
            }
        }
    };
}
