//! A recording's trace goes from the gateway to media, and reaches a collector. Neither it nor any log names a person.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use caselock_client::Tls;
use caselock_domain::digest::segment_digest;
use caselock_e2e::{Footage, Kind, Program, Run, Stack, Uploader, metadata, on_both_stacks, root, wait_until};
use caselock_proto::v1::{
    GetUploadRequest, OpenUploadRequest, RecordingMetadata, SealUploadRequest, SegmentHeader, WriteSegmentsRequest,
    ingest_service_client::IngestServiceClient, write_segments_request::Content, write_segments_response::Outcome,
};
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
    trace::v1::{Span, span::SpanKind},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig},
};

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
            // One of several must be told from the others.
            assert!(attributes.iter().any(|a| a.key == "service.instance.id"), "{attributes:?}");
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

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

async fn channel(stack: &Stack) -> Channel {
    let Tls { ca, certificate, key } = stack.tls("demo");
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).identity(Identity::from_pem(certificate, key));
    let endpoint = Endpoint::from_shared(stack.server.clone()).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.unwrap()
}

/// Uploads a recording of three bytes, each call within a trace of its own; returns its id.
async fn upload_in_a_trace(caller: &mut IngestServiceClient<Channel>, traceparent: &str) -> String {
    fn within<T>(traceparent: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request
    }
    let metadata = RecordingMetadata { officers: vec!["尉迟大山".into()], ..metadata() };
    let open = OpenUploadRequest { idempotency_key: "traced".into(), metadata: Some(metadata), size: Some(3) };
    let opened = caller.open_upload(within(traceparent, open)).await.unwrap().into_inner().recording.unwrap();
    let (recording_id, generation) = (opened.recording_id, opened.generation);
    let value = segment_digest(0, opened.segment_size, b"abc").unwrap().value.0.to_vec().into();
    let header = SegmentHeader { recording_id: recording_id.clone(), generation, index: 0, length: 3, value };
    let write = |content| WriteSegmentsRequest { content: Some(content) };
    let stream = tokio_stream::iter([write(Content::Header(header)), write(Content::Chunk(b"abc".to_vec().into()))]);
    let mut answers = caller.write_segments(within(traceparent, stream)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().outcome;
    assert!(matches!(answer, Some(Outcome::Accepted(_))), "{answer:?}");
    let blake3 = blake3::hash(b"abc").as_bytes().to_vec().into();
    let seal = SealUploadRequest { recording_id: recording_id.clone(), generation, size: 3, blake3 };
    caller.seal_upload(within(traceparent, seal)).await.unwrap();
    recording_id
}

/// Prints a trace for people: when each span began, how long it took, whose child it is.
fn list(recording: &str, spans: &[(String, Span)], trace: &[u8]) {
    let mut within: Vec<_> = spans.iter().filter(|(_, span)| span.trace_id == trace).collect();
    within.sort_by_key(|(_, span)| span.start_time_unix_nano);
    let begun = within.first().map_or(0, |(_, span)| span.start_time_unix_nano);
    println!("the trace of {recording}");
    for (service, span) in within {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let what = ["rpc.response.status_code", "step", "index"].into_iter().filter_map(|name| attribute(span, name));
        println!(
            "  {:9.1} ms {:8.1} ms  {service:19} {} {} (child of {:x?}, {} links)",
            millis(span.start_time_unix_nano - begun),
            millis(span.end_time_unix_nano - span.start_time_unix_nano),
            span.name,
            what.collect::<Vec<_>>().join(" "),
            &span.parent_span_id,
            span.links.len(),
        );
    }
}

on_both_stacks!(a_recording_has_one_trace_and_nobody_is_named);

async fn a_recording_has_one_trace_and_nobody_is_named(kind: Kind) {
    let spans = Spans::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let collector = TraceServiceServer::new(Collector(spans.clone()));
    let metrics = Metrics::default();
    let meter = MetricsServiceServer::new(Meter(metrics.clone()));
    let mut server = Server::builder();
    let mut endpoint = format!("http://localhost:{port}");
    let mut settings = vec![("telemetry.filter", "info,caselock=debug")];
    // Beside services of their own it has a certificate, of a CA that nobody else knows.
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| dir.path().join(name));
    if kind == Kind::Distributed {
        assert!(Command::new(root().join("deploy/dev-ca.sh")).arg(dir.path()).output().unwrap().status.success());
        let identity = Identity::from_pem(std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        endpoint = format!("https://localhost:{port}");
        settings.push(("telemetry.otlp_ca", ca.to_str().unwrap()));
    }
    settings.push(("telemetry.otlp_endpoint", &endpoint));
    let served = server.add_service(collector).add_service(meter);
    tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut stack = Stack::start(kind, &settings).await;
    let registry = stack.start_registry().await;
    // One that is stored by a single call, and one in parts. The names of people are nobody's business but the store's.
    let footage = Footage::new().random("欧阳小红.mp4", 1000).random("b", (8 << 20) + 1);
    let people = ["--set", "officers=尉迟大山", "--set", "party=慕容小河"];
    let run = Uploader::new(&stack).upload(footage.path(), &people);
    run.expect_stored(2);
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
    let call = |name: &str| format!("caselock.v1.IngestService/{name}");
    for stored in run.of_kind("stored") {
        // A recording's trace has its id, so that whoever has the one finds the other.
        let recording = stored["recording_id"].as_str().unwrap();
        let trace = hex(&recording.replace('-', ""));
        let parts: usize = if stored["size"].as_u64().unwrap() > 8 << 20 { 2 } else { 1 };
        let within = |service: &str, name: &str| -> Vec<Span> {
            of(service, name).into_iter().filter(|span| span.trace_id == trace).collect()
        };
        wait_until("a whole trace", || {
            !within("gateway", &call("OpenUpload")).is_empty()
                && within("gateway", "segment").len() == parts
                && !within("gateway", &call("SealUpload")).is_empty()
                && !within("media", "media-job").is_empty()
        });
        for sent in within("gateway", "segment") {
            wait_until("the archiver's span of a segment", || {
                let (parts, steps) = (within("archiver", "part"), within("archiver", "step"));
                parts.iter().chain(&steps).any(|span| span.parent_span_id == sent.span_id)
            });
            assert_eq!(sent.links.len(), 1, "a segment names the stream it came in");
        }
        let job = within("media", "media-job").remove(0);
        wait_until("the archiver's steps", || {
            let steps = within("archiver", "step");
            // A step in which segments come together names the others.
            let is_linked = parts == 1 || steps.iter().any(|step| step.links.len() == parts - 1);
            is_linked && steps.iter().any(|step| step.span_id == job.parent_span_id)
        });
        let open = &within("gateway", &call("OpenUpload"))[0];
        assert_eq!((open.kind(), attribute(open, "rpc.system.name")), (SpanKind::Server, Some("grpc".to_owned())));
        assert_eq!(attribute(open, "rpc.response.status_code").unwrap(), "OK");
        let sent = &within("gateway", "segment")[0];
        assert_eq!(attribute(sent, "messaging.destination.name").unwrap(), "caselock.footage.v1");
        list(recording, &spans.lock().unwrap(), &trace);
    }
    // Who is traced itself is followed in its own trace.
    let mut caller = IngestServiceClient::new(channel(&stack).await);
    let metadata = RecordingMetadata { officers: vec!["尉迟大山".into()], ..RecordingMetadata::default() };
    let refused = OpenUploadRequest { idempotency_key: "慕容小河".into(), metadata: Some(metadata), size: None };
    assert_eq!(caller.open_upload(refused).await.unwrap_err().code(), Code::InvalidArgument);
    wait_until("the span of a call that was refused", || {
        let calls = of("gateway", &call("OpenUpload"));
        calls.iter().any(|span| attribute(span, "rpc.response.status_code").unwrap() == "INVALID_ARGUMENT")
    });
    let mut request = Request::new(GetUploadRequest { recording_id: "33244964-9146-8612-9009-f0e31dcd8f36".into() });
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    assert_eq!(caller.get_upload(request).await.unwrap_err().code(), Code::NotFound);
    wait_until("the span of the caller's trace", || {
        of("gateway", &call("GetUpload")).iter().any(|span| {
            (span.trace_id == hex("0af7651916cd43dd8448eb211c80319c"))
                && span.parent_span_id == hex("b7ad6b7169203331")
                && attribute(span, "rpc.response.status_code").unwrap() == "NOT_FOUND"
        })
    });
    // So is the whole of a recording, from its opening to its event.
    let callers = hex("0af7651916cd43dd8448eb211c80319c");
    let traced = upload_in_a_trace(&mut caller, traceparent).await;
    wait_until("the recording in its caller's trace", || {
        let in_it = |service: &str, name: &str| of(service, name).iter().any(|span| span.trace_id == callers);
        let calls = ["OpenUpload", "WriteSegments", "SealUpload"].iter().all(|name| in_it("gateway", &call(name)));
        calls && in_it("archiver", "step") && in_it("media", "media-job")
    });
    // And what the command uploads for whoever started it.
    let footage = Footage::new().random("c", 1000);
    let mut upload = Uploader::new(&stack).saying(footage.path(), &["--json"]);
    upload.args(people).env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let run = Run::of(upload.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    run.expect_stored(1);
    let started = run.of_kind("stored").next().unwrap()["recording_id"].as_str().unwrap().to_owned();
    let (trace, parent) = (hex("4bf92f3577b34da6a3ce929d0e0e4736"), hex("00f067aa0ba902b7"));
    wait_until("the command's calls in its caller's trace", || {
        ["AnnounceRecordings", "OpenUpload", "WriteSegments", "SealUpload"].iter().all(|name| {
            of("gateway", &call(name)).iter().any(|span| span.trace_id == trace && span.parent_span_id == parent)
        })
    });
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
            // Wide: what one asks of an upload or a job stands in the one line.
            let is_wide = match object["message"].as_str() {
                Some("stored") => object["segments"].as_u64() > Some(0) && object["seconds"].as_f64() > Some(0.0),
                Some("a media job ended") => object["span"]["size"].is_u64() && object["span"]["tries"] == 1,
                _ => true,
            };
            assert!(is_wide, "{line}");
        }
    }
    assert!(about_one >= 3, "{about_one}");
    for (named, texts) in [
        ("logs", stack.programs.values().chain(&registry).map(Program::log).collect::<Vec<_>>()),
        ("spans", vec![format!("{:?}", spans.lock().unwrap())]),
    ] {
        for name in ["欧阳", "尉迟", "慕容"] {
            let told =
                texts.iter().find(|text| text.contains(name) || text.contains(&name.escape_unicode().to_string()));
            assert!(told.is_none(), "{named} tell the name {name}: {told:?}");
        }
    }
    let page = stack.programs[stack.gateway()].admin("/metrics");
    for gauge in ["in_flight_bytes", "streams", "open_uploads", "backlog_bytes"] {
        assert!(page.contains(&format!("caselock_gateway_{gauge}")), "{gauge}: {page}");
    }
    // What is counted is sent at the end, if not before.
    stack.stop();
    let mut events = stack.records(caselock_log::Topic::Events).await;
    events.retain(|event| !event.record.header_value("ce_source").unwrap().ends_with(b"/registry"));
    assert!(events.len() >= 4, "two recordings stored and verified");
    assert!(events.iter().filter(|event| *event.record.key == *traced.as_bytes()).count() >= 2, "stored and verified");
    for event in events {
        let recording = String::from_utf8(event.record.key.to_vec()).unwrap();
        let trace = match recording {
            _ if recording == traced => "0af7651916cd43dd8448eb211c80319c".to_owned(),
            _ if recording == started => "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            _ => recording.replace('-', ""),
        };
        let traceparent = event.record.header_value("ce_traceparent").unwrap();
        assert!(String::from_utf8_lossy(traceparent).contains(&trace), "{traceparent:?}");
    }
    for (service, metric) in [
        ("gateway", "caselock_gateway_accepted_bytes"),
        ("archiver", "caselock_archiver_recordings_stored"),
        ("media", "caselock_media_recordings_verified"),
    ] {
        let sent = metrics.lock().unwrap().contains(&(program(service), metric.to_owned()));
        assert!(sent, "{metric} of {service}: {:?}", metrics.lock().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_up_nobody() {
    // What comes is taken, by the system; nobody reads it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut stack = Stack::start(Kind::Embedded, &[("telemetry.otlp_endpoint", &endpoint)]).await;
    let footage = Footage::new().random("a", 1000).random("b", (8 << 20) + 1);
    Uploader::new(&stack).upload(footage.path(), &[]).expect_stored(2);
    // Its end waits for the last export, but not without end.
    stack.stop();
}
