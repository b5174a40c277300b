//! Logs, traces and metrics.

use std::{
    io::IsTerminal,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use opentelemetry::{
    Key, KeyValue,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId, TracerProvider},
};
use opentelemetry_otlp::{
    MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, SdkMeterProvider, Stream},
    trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample},
};
use prometheus::{Encoder, Registry, TextEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{ca, quiet::Quiet};

/// The attribute that tells one process from others of its service.
const INSTANCE: &str = "service.instance.id";
/// Bureaus, and how each stands, that metrics have room for.
const BUREAUS: usize = 20_000;

/// What is told, and to whom.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TelemetryConfig {
    /// Which log lines, for example `info,caselock_gateway=debug` (the syntax of tracing-subscriber's `EnvFilter`). Spans are of level `info`:
    /// with less of a service there are no traces of it, and no trace ids. Can be changed while the program runs.
    pub filter: String,
    /// An OTLP endpoint (gRPC) that traces and metrics are sent to, `http://collector:4317` or, by TLS, `https://collector:4317` for example;
    /// none are sent without one. What it does not take in time is dropped. Headers that it asks for: `OTEL_EXPORTER_OTLP_HEADERS`.
    pub otlp_endpoint: Option<String>,
    /// The CA of its certificate, a file (PEM), read when the program starts; the system's own CAs without one.
    pub otlp_ca: Option<PathBuf>,
    /// The share of traces that are sent, from 0 to 1, beside those that their caller had sampled: a recording's trace whole or not at all,
    /// where all services have the same share. Can be changed while the program runs.
    pub trace_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { filter: "info".into(), otlp_endpoint: None, otlp_ca: None, trace_ratio: 1.0 }
    }
}

impl TelemetryConfig {
    /// Checks the endpoint, its CA, the filter and the ratio.
    pub fn check(&self) -> anyhow::Result<()> {
        let endpoint = self.otlp_endpoint.as_deref();
        ensure!(
            endpoint.is_none_or(|endpoint| !endpoint.contains('@')),
            "telemetry.otlp_endpoint: expected an address without a user: secrets go into OTEL_EXPORTER_OTLP_HEADERS"
        );
        if let Some(endpoint) = endpoint {
            ensure!(
                endpoint.starts_with("http://") || is_tls(endpoint),
                "telemetry.otlp_endpoint: expected http://HOST:PORT or https://HOST:PORT, not {endpoint}"
            );
        }
        ensure!(
            self.otlp_ca.is_none() || endpoint.is_some_and(is_tls),
            "telemetry.otlp_ca: expected an https:// telemetry.otlp_endpoint beside it"
        );
        self.otlp_ca()?;
        ensure!(
            (0.0..=1.0).contains(&self.trace_ratio),
            "telemetry.trace_ratio: expected 0 to 1, not {}",
            self.trace_ratio
        );
        EnvFilter::try_new(&self.filter).map(drop).context("telemetry.filter")
    }

    /// Whom to believe, where that is said.
    fn otlp_ca(&self) -> anyhow::Result<Option<Vec<u8>>> {
        self.otlp_ca.as_deref().map(|file| ca::read("telemetry.otlp_ca", file)).transpose()
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
    /// What can be changed while the program runs.
    pub dials: Dials,
    meter: SdkMeterProvider,
    /// Where spans are sent.
    tracer: Option<SdkTracerProvider>,
}

/// What of telemetry can be changed while the program runs.
#[derive(Clone)]
pub struct Dials {
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
    ratio: Ratio,
}

impl Dials {
    /// Sets which log lines there are.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(filter).context("telemetry.filter")?;
        // Said while it still is.
        tracing::warn!(was = self.now().0, is = %filter, "telemetry.filter is changed");
        self.filter.reload(filter).context("telemetry.filter")?;
        tracing::info!("telemetry.filter is as asked");
        Ok(())
    }

    /// Sets the share of traces that are sent.
    pub fn set_trace_ratio(&self, ratio: f64) -> anyhow::Result<()> {
        ensure!((0.0..=1.0).contains(&ratio), "telemetry.trace_ratio: expected 0 to 1, not {ratio}");
        self.ratio.0.store(ratio.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Both, as they are now.
    pub fn now(&self) -> (String, f64) {
        let filter = self.filter.with_current(EnvFilter::to_string).unwrap_or_default();
        (filter, self.ratio.now())
    }
}

/// Samples a share of traces that can be changed, by their ids: every process that has the same share takes the same ones. What a caller
/// had sampled is sampled; that it did not ask for it decides nothing.
#[derive(Debug, Clone)]
struct Ratio(Arc<AtomicU64>);

impl Ratio {
    fn now(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl ShouldSample for Ratio {
    fn should_sample(
        &self,
        parent: Option<&opentelemetry::Context>,
        id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent_span = parent.map(|parent| parent.span().span_context().clone()).filter(SpanContext::is_valid);
        let sampler = match parent_span {
            Some(parent) if parent.is_sampled() => Sampler::AlwaysOn,
            Some(parent) if !parent.is_remote() => Sampler::AlwaysOff,
            _ => Sampler::TraceIdRatioBased(self.now()),
        };
        // The SDK goes by an id's second half. A recording's id is a UUID: there its variant stands, in the bits that decide.
        let id = TraceId::from(u128::from_be_bytes(id.to_bytes()).rotate_left(64));
        sampler.should_sample(parent, id, name, kind, attributes, links)
    }
}

/// What is told of each bureau is told of all: a country may have more of them than an instrument has room for by itself.
fn by_bureau(instrument: &Instrument) -> Option<Stream> {
    let is_by_bureau = instrument.name().contains("_bureau_");
    is_by_bureau.then(|| Stream::builder().with_cardinality_limit(BUREAUS).build().ok()).flatten()
}

/// Starts logs (for people on a terminal, JSON otherwise), traces and metrics. The last two are sent where an endpoint is set.
pub fn start(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
    let mut attributes = vec![
        KeyValue::new("service.namespace", "caselock"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    // Which of several of its kind it is: as the environment says (OTEL_RESOURCE_ATTRIBUTES), or else a new one at each start.
    if Resource::builder().build().get(&Key::from_static_str(INSTANCE)).is_none() {
        attributes.push(KeyValue::new(INSTANCE, uuid::Uuid::new_v4().to_string()));
    }
    let resource = Resource::builder().with_service_name(service).with_attributes(attributes).build();
    let metrics = Metrics::default();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(metrics.0.clone()).build().context("prepare metrics")?;
    let mut meter =
        SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(exporter).with_view(by_bureau);
    let ratio = Ratio(Arc::new(AtomicU64::new(config.trace_ratio.to_bits())));
    let traces = SdkTracerProvider::builder().with_resource(resource);
    let traces = match &config.otlp_endpoint {
        // None is sent; log lines have their ids all the same, and whoever comes after knows what the caller had sampled.
        None => traces.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))).build(),
        Some(endpoint) => {
            let (metrics, spans) = exporters(endpoint, config).context("telemetry.otlp_endpoint")?;
            meter = meter.with_periodic_exporter(metrics);
            traces.with_sampler(ratio.clone()).with_batch_exporter(spans).build()
        }
    };
    let meter = meter.build();
    opentelemetry::global::set_meter_provider(meter.clone());
    opentelemetry::global::set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());

    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.filter).context("read telemetry.filter")?);
    let lines = if std::io::stderr().is_terminal() {
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).compact().boxed()
    } else {
        // The span a line is in has all that its parents say.
        let lines = json_subscriber::layer().with_writer(std::io::stderr).flatten_event(true).with_span_list(false);
        lines.with_opentelemetry_ids(true).boxed()
    };
    let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer(service));
    tracing_subscriber::registry()
        .with(filter)
        .with(spans)
        .with(lines.with_filter(Quiet::default()))
        .try_init()
        .context("start logging")?;
    let tracer = config.otlp_endpoint.is_some().then_some(traces);
    Ok(Telemetry { metrics, dials: Dials { filter: handle, ratio }, meter, tracer })
}

/// What sends to a collector.
fn exporters(endpoint: &str, config: &TelemetryConfig) -> anyhow::Result<(MetricExporter, SpanExporter)> {
    let (metrics, spans) = (MetricExporter::builder().with_tonic(), SpanExporter::builder().with_tonic());
    let (mut metrics, mut spans) = (metrics.with_endpoint(endpoint), spans.with_endpoint(endpoint));
    if is_tls(endpoint) {
        let tls = match config.otlp_ca()? {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        (metrics, spans) = (metrics.with_tls_config(tls.clone()), spans.with_tls_config(tls));
    }
    Ok((metrics.build()?, spans.build()?))
}

fn is_tls(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

impl Telemetry {
    /// Sends what is left. Waits for an unreachable collector only as long as the SDK's own limit.
    pub fn finish(self) {
        let traces = self.tracer.map(|tracer| tracer.shutdown());
        for result in traces.into_iter().chain([self.meter.shutdown()]) {
            if let Err(error) = result {
                tracing::warn!(%error, "telemetry was not sent to its end");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use caselock_domain::id::RecordingId;
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    #[test]
    fn of_recordings_the_share_is_sampled_that_was_asked_for() {
        let bureau = "demo".parse().unwrap();
        let recordings: Vec<_> =
            (0..4000).map(|n| RecordingId::derive(&bureau, &format!("key-{n}").parse().unwrap())).collect();
        for wanted in [0.0, 0.1, 0.5, 1.0] {
            let ratio = Ratio(Arc::new(AtomicU64::new(f64::to_bits(wanted))));
            let sampled = recordings.iter().filter(|id| {
                let id = TraceId::from_bytes(*id.as_bytes());
                let result = ratio.should_sample(None, id, "", &SpanKind::Internal, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            });
            let share = sampled.count() as f64 / recordings.len() as f64;
            assert!((share - wanted).abs() < 0.05, "{share} of {wanted}");
        }
    }
}
