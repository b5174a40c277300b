//! Traces across processes: the W3C `traceparent`, in gRPC metadata and in records' headers.

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, global,
    propagation::{Extractor, Injector},
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The span of a record that a group takes out of a topic and works on, by OpenTelemetry's conventions for messaging; then further fields.
#[macro_export]
macro_rules! process_span {
    ($name:literal, $group:expr, $topic:expr, $entry:expr, $($field:tt)*) => {
        tracing::info_span!(
            $name,
            otel.kind = "consumer",
            messaging.system = "kafka",
            messaging.operation.type = "process",
            messaging.operation.name = "process",
            messaging.destination.name = $topic.name(),
            messaging.destination.partition.id = $entry.partition,
            messaging.consumer.group.name = $group,
            kafka.offset = $entry.offset,
            $($field)*
        )
    };
}

/// The current span as a `traceparent`; `None` outside of any.
pub fn traceparent() -> Option<String> {
    let mut header = Header(None);
    global::get_text_map_propagator(|propagator| propagator.inject_context(&Span::current().context(), &mut header));
    header.0
}

/// Makes a span the child of the one that a `traceparent` names; says whether it does. One that can't be read is passed over: a trace
/// is never a reason to refuse work.
pub fn continue_from(span: &Span, traceparent: Option<&[u8]>) -> bool {
    let parent = traceparent.and_then(read);
    let is_there = parent.is_some();
    if let Some(parent) = parent {
        set_parent(span, parent);
    }
    is_there
}

/// Whether a `traceparent` names a span.
pub fn can_be_read(traceparent: &[u8]) -> bool {
    read(traceparent).is_some()
}

/// Makes a span part of a recording's trace: of the one that a `traceparent` names; without it, of the trace that has the recording's
/// id for its own, so that whoever has a recording's id finds what was done.
pub fn of_recording(span: &Span, traceparent: Option<&[u8]>, recording: &[u8; 16]) {
    if !continue_from(span, traceparent) {
        // Its first span is nobody's: all that are made for the recording are its children.
        let first = SpanId::from_bytes([recording[0] | 1, 0, 0, 0, 0, 0, 0, 1]);
        let trace = TraceId::from_bytes(*recording);
        set_parent(span, SpanContext::new(trace, first, TraceFlags::NOT_SAMPLED, true, TraceState::NONE));
    }
}

/// Links a span to the one that a `traceparent` names: where several come together.
pub fn link(span: &Span, traceparent: &[u8]) {
    if let Some(other) = read(traceparent) {
        span.add_link(other);
    }
}

/// Links a span to another of this process.
pub fn link_to(span: &Span, other: &Span) {
    let other = other.context().span().span_context().clone();
    if other.is_valid() {
        span.add_link(other);
    }
}

fn set_parent(span: &Span, parent: SpanContext) {
    // A span that is filtered out can't be set anything.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

fn read(traceparent: &[u8]) -> Option<SpanContext> {
    let header = Header(Some(std::str::from_utf8(traceparent).ok()?.to_owned()));
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&header));
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

struct Header(Option<String>);

impl Injector for Header {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Header {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}
