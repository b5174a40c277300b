//! Traces across processes: the W3C `traceparent`, in gRPC metadata and in records' headers.

use opentelemetry::{global, propagation::Extractor, propagation::Injector};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The current span as a `traceparent`; `None` where no traces are recorded.
pub fn traceparent() -> Option<String> {
    let mut header = Header(None);
    global::get_text_map_propagator(|propagator| propagator.inject_context(&Span::current().context(), &mut header));
    header.0
}

/// Makes a span the child of the one that a `traceparent` names. One that can't be read is passed over: a trace is never a
/// reason to refuse work.
pub fn continue_from(span: &Span, traceparent: Option<&[u8]>) {
    let Some(text) = traceparent.and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return };
    let header = Header(Some(text.to_owned()));
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&header));
    // Where no traces are recorded there is nothing to be set.
    let _ = span.set_parent(parent);
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
