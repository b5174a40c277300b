//! A trace goes with a segment from the gateway to the archiver, and reaches a collector.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use caselock_e2e::{Footage, Kind, Stack, Uploader, on_both_stacks, wait_until};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// The names of metrics that a collector was sent, by service.
type Metrics = Arc<Mutex<HashSet<(String, String)>>>;

struct Meter(Metrics);

#[tonic::async_trait]
impl MetricsService for Meter {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for resource in request.into_inner().resource_metrics {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|a| a.key == "service.name").and_then(|a| a.value?.value);
            let Some(Value::StringValue(service)) = name else { continue };
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.0.lock().unwrap().extend(metrics.map(|metric| (service.clone(), metric.name)));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// What a collector was sent: the service, and its span.
type Spans = Arc<Mutex<Vec<(String, Span)>>>;

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|a| a.key == "service.name").and_then(|a| a.value?.value);
            let Some(Value::StringValue(service)) = name else { continue };
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

on_both_stacks!(a_segment_is_traced_from_the_gateway_to_the_archiver);

async fn a_segment_is_traced_from_the_gateway_to_the_archiver(kind: Kind) {
    let spans = Spans::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = TraceServiceServer::new(Collector(spans.clone()));
    let metrics = Metrics::default();
    let meter = MetricsServiceServer::new(Meter(metrics.clone()));
    let server = Server::builder().add_service(collector).add_service(meter);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut stack = Stack::start(kind, &[("telemetry.otlp_endpoint", &endpoint)]).await;
    // One that is stored by a single call, and one in parts.
    let footage = Footage::new().random("a", 1000).random("b", (8 << 20) + 1);
    Uploader::new(&stack).upload(footage.path(), &[]).expect_stored(2);
    // What a service is called where all are one process.
    let program = |service: &str| match kind {
        Kind::Embedded => "caselock-standalone".to_owned(),
        Kind::Distributed => format!("caselock-{service}"),
    };
    let of = |service: &str, name: &str| -> Vec<Span> {
        let service = program(service);
        let spans = spans.lock().unwrap();
        spans.iter().filter(|(s, span)| *s == service && span.name == name).map(|(_, span)| span.clone()).collect()
    };
    wait_until("the gateway's spans", || of("gateway", "segment").len() == 3);
    for sent in of("gateway", "segment") {
        let is_next = |span: &Span| (&span.trace_id, &span.parent_span_id) == (&sent.trace_id, &sent.span_id);
        wait_until("the archiver's span", || {
            of("archiver", "part").iter().chain(&of("archiver", "step")).filter(|span| is_next(span)).count() == 1
        });
    }
    wait_until("the last step", || !of("media", "media-job").is_empty());
    let job = &of("media", "media-job")[0];
    let steps = of("archiver", "step");
    assert!(steps.iter().any(|step| (&step.trace_id, &step.span_id) == (&job.trace_id, &job.parent_span_id)));
    // Where nobody looks at a terminal, every line of a log is an object; one about a recording's end names its trace.
    let mut about_one = 0;
    for program in stack.programs.values() {
        let log = program.log();
        assert!(!log.is_empty());
        for line in log.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
            let is_about_one = object["message"] == "stored" || object["message"] == "a media job ended";
            assert!(!is_about_one || object["openTelemetry"]["traceId"].is_string(), "{line}");
            about_one += usize::from(is_about_one);
        }
    }
    assert!(about_one >= 3, "{about_one}");
    let page = stack.programs[stack.gateway()].admin("/metrics");
    for gauge in ["in_flight_bytes", "streams", "open_uploads", "backlog_bytes"] {
        assert!(page.contains(&format!("caselock_gateway_{gauge}")), "{gauge}: {page}");
    }
    // What is counted is sent at the end, if not before.
    stack.stop();
    for (service, metric) in [
        ("gateway", "caselock_gateway_accepted_bytes"),
        ("archiver", "caselock_archiver_recordings_stored"),
        ("media", "caselock_media_recordings_verified"),
    ] {
        let sent = metrics.lock().unwrap().contains(&(program(service), metric.to_owned()));
        assert!(sent, "{metric} of {service}: {:?}", metrics.lock().unwrap());
    }
}
