//! gRPC's own health and reflection.

use std::time::Duration;

use anyhow::Context;
use caselock_runtime::health::Health;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// gRPC health follows readiness, for the whole server and for the service `S`, until `stop`, and says no from then on.
pub async fn report<S: NamedService>(reporter: HealthReporter, health: Health, stop: CancellationToken) {
    loop {
        let ready = health.problems().is_empty() && !stop.is_cancelled();
        // The whole server, which has no name: what most probes ask for.
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        reporter.set_service_status(S::NAME, status).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled(), if ready => {}
        }
        if stop.is_cancelled() && !ready {
            return;
        }
    }
}

/// The reflection service, where it is wanted.
pub fn reflection(is_wanted: bool) -> anyhow::Result<Option<ServerReflectionServer<impl ServerReflection>>> {
    if !is_wanted {
        return Ok(None);
    }
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(caselock_proto::FILE_DESCRIPTOR_SET);
    builder.build_v1().map(Some).context("prepare reflection")
}
