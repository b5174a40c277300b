//! `IngestService`: one file a call.

mod announce;
mod answer;
mod open;
mod seal;
mod segment;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    fact::{Fact, FactKey, Nonce, Subject},
    id::{BureauId, RecordingId},
    reason::Reason,
    state::Phase,
    time::Clock,
};
use caselock_log::Log;
use caselock_proto::v1::{self as proto, ingest_service_server::IngestService};
use caselock_runtime::trace::{self, TRACEPARENT};
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument, Span, field::Empty, info_span};

use caselock_front::{Caller, Refusal, code_name};

use crate::{admission::Admission, config::GatewayConfig, metrics::GatewayMetrics, view::View};

/// What every call works with.
pub struct Ingest {
    pub log: Arc<dyn Log>,
    pub view: Arc<View>,
    pub admission: Admission,
    pub config: GatewayConfig,
    pub clock: Clock,
    /// Draws the random part of keys.
    pub nonce: fn() -> Nonce,
    pub metrics: GatewayMetrics,
    /// Cancelled when the gateway drains.
    pub drain: CancellationToken,
}

impl Ingest {
    /// Does the work of a call in its span.
    async fn answer<T>(&self, span: Span, work: impl Future<Output = Result<T, Refusal>>) -> Answer<T> {
        let done = work.instrument(span.clone()).await;
        let answer = done.map(Response::new).map_err(|refusal| self.refuse(refusal));
        span.record("rpc.response.status_code", code_name(answer.as_ref().map_or_else(Status::code, |_| Code::Ok)));
        answer
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        self.metrics.refused(refusal.reason.as_str());
        refusal.into()
    }

    /// The bureau a call comes from, unless the gateway drains.
    fn caller<T>(&self, request: &Request<T>) -> Result<BureauId, Refusal> {
        if self.drain.is_cancelled() {
            return Err(Refusal::new(
                Reason::Draining,
                "this gateway is stopping: use another, or this one again later",
            ));
        }
        Caller::bureau_of(request)
    }

    fn stream_life(&self) -> Duration {
        Duration::from_secs(self.config.stream_life_seconds)
    }
}

/// The span of a call: a child of the caller's where that names its own; else part of its recording's trace, where it is about one.
fn span<T>(method: &'static str, request: &Request<T>, recording: Option<RecordingId>) -> Span {
    let span = info_span!(
        "call",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        recording = recording.map(display),
    );
    let traceparent = traceparent(request);
    match recording {
        Some(recording) => trace::of_recording(&span, traceparent, recording.as_bytes()),
        None => drop(trace::continue_from(&span, traceparent)),
    }
    span
}

fn traceparent<T>(request: &Request<T>) -> Option<&[u8]> {
    request.metadata().get(TRACEPARENT).map(|value| value.as_bytes())
}

fn recording_id(text: &str) -> Result<RecordingId, Refusal> {
    // What is no id names no recording: the same words as for one that is not there.
    text.parse().map_err(|_| Refusal::not_found())
}

/// The service, cheap to clone.
#[derive(Clone)]
pub struct IngestServer(pub Arc<Ingest>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl IngestService for IngestServer {
    async fn announce_recordings(
        &self,
        request: Request<proto::AnnounceRecordingsRequest>,
    ) -> Answer<proto::AnnounceRecordingsResponse> {
        let span = span("caselock.v1.IngestService/AnnounceRecordings", &request, None);
        let announced = async {
            let bureau = self.0.caller(&request)?;
            self.0.announce_recordings(bureau, request.into_inner()).await
        };
        self.0.answer(span, announced).await
    }

    async fn open_upload(&self, request: Request<proto::OpenUploadRequest>) -> Answer<proto::OpenUploadResponse> {
        let key = request.get_ref().idempotency_key.parse();
        let id = self.0.caller(&request).ok().zip(key.ok()).map(|(bureau, key)| RecordingId::derive(&bureau, &key));
        let span = span("caselock.v1.IngestService/OpenUpload", &request, id);
        let opened = async {
            let bureau = self.0.caller(&request)?;
            self.0.open(bureau, request.into_inner()).await
        };
        self.0.answer(span, opened).await
    }

    type WriteSegmentsStream = BoxStream<'static, Result<proto::WriteSegmentsResponse, Status>>;

    async fn write_segments(
        &self,
        request: Request<Streaming<proto::WriteSegmentsRequest>>,
    ) -> Answer<Self::WriteSegmentsStream> {
        let bureau = self.0.caller(&request).map_err(|r| self.0.refuse(r))?;
        let span = span("caselock.v1.IngestService/WriteSegments", &request, None);
        let is_traced = traceparent(&request).is_some_and(trace::can_be_read);
        Ok(Response::new(write::serve(self.0.clone(), bureau, request.into_inner(), span, is_traced)))
    }

    async fn get_upload(&self, request: Request<proto::GetUploadRequest>) -> Answer<proto::GetUploadResponse> {
        let id = request.get_ref().recording_id.parse().ok();
        let span = span("caselock.v1.IngestService/GetUpload", &request, id);
        let got = async {
            let bureau = self.0.caller(&request)?;
            let id = recording_id(&request.get_ref().recording_id)?;
            // Any gateway may have acknowledged a segment a moment ago: none of them may be missed.
            self.0.view.catch_up(id).await?;
            let found = self.0.view.look(&bureau, id, |facts| proto::GetUploadResponse {
                recording: Some(answer::recording(id, facts)),
                held: answer::held(facts),
            });
            found.ok_or_else(Refusal::not_found)
        };
        self.0.answer(span, got).await
    }

    async fn seal_upload(&self, request: Request<proto::SealUploadRequest>) -> Answer<proto::SealUploadResponse> {
        let id = request.get_ref().recording_id.parse().ok();
        let span = span("caselock.v1.IngestService/SealUpload", &request, id);
        let sealed = async {
            let bureau = self.0.caller(&request)?;
            let recording = self.0.seal(bureau, request.into_inner()).await?;
            Ok(proto::SealUploadResponse { recording: Some(recording) })
        };
        self.0.answer(span, sealed).await
    }

    async fn abandon_upload(
        &self,
        request: Request<proto::AbandonUploadRequest>,
    ) -> Answer<proto::AbandonUploadResponse> {
        let id = request.get_ref().recording_id.parse().ok();
        let span = span("caselock.v1.IngestService/AbandonUpload", &request, id);
        let abandoned = async {
            let bureau = self.0.caller(&request)?;
            let id = recording_id(&request.get_ref().recording_id)?;
            Ok(proto::AbandonUploadResponse { recording: Some(self.0.abandon(bureau, id).await?) })
        };
        self.0.answer(span, abandoned).await
    }

    type WatchRecordingsStream = BoxStream<'static, Result<proto::WatchRecordingsResponse, Status>>;

    async fn watch_recordings(
        &self,
        request: Request<proto::WatchRecordingsRequest>,
    ) -> Answer<Self::WatchRecordingsStream> {
        let bureau = self.0.caller(&request).map_err(|r| self.0.refuse(r))?;
        let watched = watch::serve(self.0.clone(), bureau, &request.get_ref().recording_ids);
        watched.map(Response::new).map_err(|r| self.0.refuse(r))
    }
}

impl Ingest {
    /// Asks for an upload to be given up. What is sealed is not: it will be stored.
    async fn abandon(&self, bureau: BureauId, id: RecordingId) -> Result<proto::Recording, Refusal> {
        self.view.catch_up(id).await?;
        let (phase, generation) =
            self.view.look(&bureau, id, |facts| (facts.phase(), facts.current())).ok_or_else(Refusal::not_found)?;
        match phase {
            Some(Phase::Open) => {
                let key = FactKey { recording: id, generation, subject: Subject::AbandonRequested };
                let offset = self.view.record(&key, &Fact::AbandonRequested((self.clock)())).await?;
                self.view.reach(id, offset).await?;
            }
            Some(Phase::Abandoned) => {}
            Some(Phase::Disposed) => return Err(answer::closed("it was disposed of")),
            _ => return Err(answer::closed("it is sealed: it will be stored, and cannot be given up")),
        }
        self.view.look(&bureau, id, |facts| answer::recording(id, facts)).ok_or_else(Refusal::not_found)
    }
}
