//! What every program does before and after its work.

use std::{future::Future, sync::mpsc, thread, time::Duration};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Flags,
    admin::{self, AdminConfig},
    config,
    health::Health,
    shutdown,
    telemetry::{self, Dials, Telemetry, TelemetryConfig},
};

/// How long a program's end waits for its last telemetry: the SDK takes ten seconds at most for traces and metrics, of a collector that is away,
const TELLING: Duration = Duration::from_secs(11);
/// and for what it left behind.
const LEFT: Duration = Duration::from_secs(3);

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

/// Does a program's work, and ends soon after it: on a disk that fails a read may never return, and whoever starts the program anew would wait
/// with it.
pub fn main<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    end_within(LEFT, work)
}

fn end_within<T>(left: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Runtime::new().context("start the runtime")?;
    let worked = runtime.block_on(work);
    runtime.shutdown_timeout(left);
    worked
}

/// Loads the configuration, starts telemetry and the admin port, does the work, and sends the last telemetry. With
/// `--check-config`, `--dump-config` or `--config-schema` it ends once the configuration was read. SIGHUP reads the configuration anew for what of telemetry
/// can be changed.
pub async fn run<C, F>(name: &'static str, flags: &Flags, work: impl FnOnce(C, Running) -> F) -> anyhow::Result<()>
where
    C: Common + DeserializeOwned + Serialize + Default + JsonSchema + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    let hangup = signal(SignalKind::hangup())?;
    if flags.config_schema {
        println!("{:#}", config::schema::<C>());
        return Ok(());
    }
    let config: C = flags.load()?;
    if flags.dump_config {
        print!("{}", toml::to_string(&config).context("print the configuration")?);
        return Ok(());
    }
    config.check()?;
    if flags.check_config {
        return Ok(());
    }
    let telemetry = telemetry::start(name, config.telemetry())?;
    let (health, stop) = (Health::default(), shutdown::on_signal()?);
    // It goes on answering while the work drains, and says so.
    let admin_stop = CancellationToken::new();
    let (metrics, dials) = (telemetry.metrics.clone(), telemetry.dials.clone());
    let admin = admin::serve(config.admin(), health.clone(), metrics, dials.clone(), admin_stop.clone()).await?;
    reload_on_hangup::<C>(hangup, flags.clone(), dials);
    tracing::info!(%admin, "the admin port answers");
    let draining = health.clone();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        draining.down("draining", "the service is stopping");
    });
    let starting = health.clone();
    let worked = tokio::select! {
        worked = work(config, Running { health, stop: stop.clone() }) => worked,
        // While it waits for what is away there is nothing to be drained.
        () = async { stop.cancelled().await; if starting.has_started() { std::future::pending().await } } => {
            tracing::info!("stopped before it had started");
            Ok(())
        }
    };
    admin_stop.cancel();
    tell_the_last(telemetry);
    worked
}

/// Sends the last telemetry, on a thread of its own: where a metric's disk hangs, the runtime's may all stand still.
fn tell_the_last(telemetry: Telemetry) {
    let (told, end) = mpsc::channel();
    let telling = thread::Builder::new().spawn(move || {
        telemetry.finish();
        // Nobody waits for it any more where it came late.
        let _ = told.send(());
    });
    if telling.is_err() || end.recv_timeout(TELLING).is_err() {
        tracing::warn!("the last telemetry was not sent in time");
    }
}

/// Takes what can be changed from the configuration as it is when SIGHUP comes. A wrong one is logged and changes nothing.
fn reload_on_hangup<C>(mut hangup: Signal, flags: Flags, dials: Dials)
where
    C: Common + DeserializeOwned + Serialize + Default + JsonSchema,
{
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let reload = || -> anyhow::Result<(String, f64)> {
                let config: C = flags.load()?;
                let telemetry = config.telemetry();
                telemetry.check()?;
                dials.set_filter(&telemetry.filter)?;
                dials.set_trace_ratio(telemetry.trace_ratio)?;
                Ok(dials.now())
            };
            match reload() {
                Ok((filter, trace_ratio)) => {
                    tracing::info!(%filter, trace_ratio, "SIGHUP: telemetry as configured now")
                }
                Err(error) => tracing::error!(error = format!("{error:#}"), "SIGHUP: nothing was changed"),
            }
        }
    });
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_never_returns_holds_up_no_end() {
        let (held, never) = mpsc::channel::<()>();
        let worked = end_within(Duration::from_millis(10), async {
            tokio::task::spawn_blocking(move || never.recv());
            anyhow::Ok(7)
        });
        assert!(matches!(worked, Ok(7)));
        drop(held);
    }
}
