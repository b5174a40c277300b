//! A reason for every error, those too that come from below our own code: of tonic, before a request reaches us. And how long calls take.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use caselock_domain::reason::Reason;
use caselock_runtime::count;
use futures::future::BoxFuture;
use opentelemetry::{KeyValue, metrics::Histogram};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Service,
        http::{Request, Response},
    },
};
use tower::Layer;

use crate::Refusal;

/// Bounds of the time of a call, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0];
/// Calls whose answer is a stream, which begins at once and may last: their own metrics tell of them.
const STREAMS: [&str; 2] = ["caselock.v1.IngestService/WriteSegments", "caselock.v1.IngestService/WatchRecordings"];

/// The layer that gives errors their reasons, and measures calls.
#[derive(Debug, Clone)]
pub struct Reasons {
    late: Option<(Duration, Reason)>,
    seconds: Histogram<f64>,
}

impl Default for Reasons {
    fn default() -> Self {
        Self { late: None, seconds: count::seconds("caselock-front", "caselock_call_seconds", &BOUNDS) }
    }
}

impl Reasons {
    /// As the default; and a call whose answer has not begun after `limit` is answered with `reason`.
    pub fn within(limit: Duration, reason: Reason) -> Self {
        Self { late: Some((limit, reason)), ..Self::default() }
    }
}

/// A call that is measured, from here to its answer, or to where its caller gives it up.
struct Measured {
    method: String,
    began: Instant,
    seconds: Histogram<f64>,
    code: Code,
}

impl Measured {
    fn ended<B>(&mut self, answer: &Response<B>) {
        self.code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Anybody may call what is not there by any name, and give it up before it is told so.
        let is_known = !matches!(self.code, Code::Unimplemented | Code::Cancelled);
        let method = if is_known { &self.method } else { "other" };
        let labels = [KeyValue::new("method", method.to_owned()), KeyValue::new("code", code_name(self.code))];
        self.seconds.record(self.began.elapsed().as_secs_f64(), &labels);
    }
}

/// A code as OpenTelemetry spells it: `NOT_FOUND`.
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl<S> Layer<S> for Reasons {
    type Service = Reasoned<S>;

    fn layer(&self, inner: S) -> Reasoned<S> {
        Reasoned { inner, reasons: self.clone() }
    }
}

/// A service whose errors have reasons.
#[derive(Debug, Clone)]
pub struct Reasoned<S> {
    inner: S,
    reasons: Reasons,
}

impl<S> Service<Request<Body>> for Reasoned<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // gRPC's own services, health and reflection, have their own errors.
        let path = request.uri().path();
        let method = path.strip_prefix('/').filter(|method| method.starts_with("caselock."));
        let is_ours = method.is_some();
        let (began, seconds) = (Instant::now(), self.reasons.seconds.clone());
        let mut measured = method.filter(|method| !STREAMS.contains(method)).map(|method| Measured {
            method: method.to_owned(),
            began,
            seconds,
            code: Code::Cancelled,
        });
        let answered = self.inner.call(request);
        let late = self.reasons.late;
        Box::pin(async move {
            let answer = match late {
                None => answered.await?,
                Some((limit, reason)) => match timeout(limit, answered).await {
                    Ok(answer) => answer?,
                    Err(_) => {
                        let words = "no answer in time: what was done twice counts once, so ask again";
                        Status::from(Refusal::new(reason, words)).into_http()
                    }
                },
            };
            if !is_ours {
                return Ok(answer);
            }
            let bare = Status::from_header_map(answer.headers()).filter(|status| status.details().is_empty());
            let answer = match bare.and_then(|status| reason(&status)) {
                Some(refusal) => Status::from(refusal).into_http(),
                None => answer,
            };
            if let Some(measured) = &mut measured {
                measured.ended(&answer);
            }
            Ok(answer)
        })
    }
}

/// What an error of tonic's means; `None` for what is none.
pub fn reason(status: &Status) -> Option<Refusal> {
    let reason = match status.code() {
        // A message that is too large, and one that can't be read.
        Code::OutOfRange | Code::Internal => Reason::RequestInvalid,
        // No such call, or a compression that is not spoken.
        Code::Unimplemented => Reason::CallUnsupported,
        _ => return None,
    };
    Some(Refusal::new(reason, status.message()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{convert::Infallible, future};

    use tonic_types::StatusExt;

    use super::*;

    /// A service that never answers.
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            future::pending()
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_is_answered_with_a_reason() {
        let mut silent = Reasons::within(Duration::from_millis(1), Reason::LogUnavailable).layer(Silent);
        // Of whatever service: each holds its place among the calls.
        for path in ["/caselock.v1.IngestService/GetUpload", "/grpc.health.v1.Health/Check"] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let answer = silent.call(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.get_error_details().error_info().unwrap().reason, "LOG_UNAVAILABLE");
            assert!(status.get_error_details().retry_info().is_some());
        }
    }
}
