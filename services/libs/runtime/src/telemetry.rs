//! Logs, traces and metrics.

use std::io::IsTerminal;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use prometheus::{Encoder, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// What is told, and to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryConfig {
    /// Which log lines: a filter as of tracing-subscriber's EnvFilter, for example `info,caselock_gateway=debug`.
    pub filter: String,
    /// The OTLP endpoint (gRPC) traces and metrics go to; none are sent without one.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { filter: "info".into(), otlp_endpoint: None }
    }
}

impl TelemetryConfig {
    /// Checks the filter.
    pub fn check(&self) -> anyhow::Result<()> {
        EnvFilter::try_new(&self.filter).map(drop).context("telemetry.filter")
    }
}

/// The metrics, as Prometheus reads them.
#[derive(Clone, Default)]
pub struct Metrics(Registry);

impl Metrics {
    /// The text exposition.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.0.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// Telemetry that is running. [`Telemetry::finish`] sends what is left; call it last.
pub struct Telemetry {
    /// The metrics, for the admin port.
    pub metrics: Metrics,
    meter: SdkMeterProvider,
    tracer: Option<SdkTracerProvider>,
}

/// Starts logs (for people on a terminal, JSON otherwise), and traces and metrics where an endpoint is set.
pub fn start(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder().with_service_name(service).build();
    let metrics = Metrics::default();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(metrics.0.clone()).build().context("prepare metrics")?;
    let mut meter = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(exporter);
    let mut tracer = None;
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        meter = meter.with_periodic_exporter(exporter);
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        tracer = Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build());
    }
    let meter = meter.build();
    opentelemetry::global::set_meter_provider(meter.clone());
    opentelemetry::global::set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());

    let filter = EnvFilter::try_new(&config.filter).context("read telemetry.filter")?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.compact().boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let spans = tracer.as_ref().map(|t| tracing_opentelemetry::layer().with_tracer(t.tracer(service)));
    tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init().context("start logging")?;
    Ok(Telemetry { metrics, meter, tracer })
}

impl Telemetry {
    /// Sends what is left. Waits for an unreachable collector only as long as the SDK's own limit.
    pub fn finish(self) {
        let traces = self.tracer.map(|t| t.shutdown());
        for result in traces.into_iter().chain([self.meter.shutdown()]) {
            if let Err(error) = result {
                tracing::warn!(%error, "telemetry was not sent to its end");
            }
        }
    }
}
