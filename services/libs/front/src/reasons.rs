//! A reason for every error, those too that come from below our own code: of tonic, before a request reaches us.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use caselock_domain::reason::Reason;
use futures::future::BoxFuture;
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

/// The layer that gives errors their reasons.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reasons {
    late: Option<(Duration, Reason)>,
}

impl Reasons {
    /// As the default; and a call whose answer has not begun after `limit` is answered with `reason`.
    pub fn within(limit: Duration, reason: Reason) -> Self {
        Self { late: Some((limit, reason)) }
    }
}

impl<S> Layer<S> for Reasons {
    type Service = Reasoned<S>;

    fn layer(&self, inner: S) -> Reasoned<S> {
        Reasoned { inner, reasons: *self }
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
        let is_ours = request.uri().path().starts_with("/caselock.");
        let answered = self.inner.call(request);
        let late = self.reasons.late;
        Box::pin(async move {
            let answer = match late {
                None => answered.await?,
                Some((limit, reason)) => match timeout(limit, answered).await {
                    Ok(answer) => answer?,
                    Err(_) => {
                        let words = "no answer in time: what was done twice counts once, so ask again";
                        return Ok(Status::from(Refusal::new(reason, words)).into_http());
                    }
                },
            };
            if !is_ours {
                return Ok(answer);
            }
            let bare = Status::from_header_map(answer.headers()).filter(|status| status.details().is_empty());
            Ok(match bare.and_then(|status| reason(&status)) {
                Some(refusal) => Status::from(refusal).into_http(),
                None => answer,
            })
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
