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
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, Span, info_span};

use caselock_front::{Caller, Refusal};

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

/// The span of a call, a child of the caller's where that names its own.
fn span<T>(call: &'static str, request: &Request<T>) -> Span {
    let span = info_span!("call", otel.name = call);
    trace::continue_from(&span, request.metadata().get(TRACEPARENT).map(|value| value.as_bytes()));
    span
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
        let span = span("AnnounceRecordings", &request);
        let announced = async {
            let bureau = self.0.caller(&request)?;
            self.0.announce_recordings(bureau, request.into_inner()).await
        };
        announced.instrument(span).await.map(Response::new).map_err(|r| self.0.refuse(r))
    }

    async fn open_upload(&self, request: Request<proto::OpenUploadRequest>) -> Answer<proto::OpenUploadResponse> {
        let span = span("OpenUpload", &request);
        let opened = async {
            let bureau = self.0.caller(&request)?;
            self.0.open(bureau, request.into_inner()).await
        };
        opened.instrument(span).await.map(Response::new).map_err(|r| self.0.refuse(r))
    }

    type WriteSegmentsStream = BoxStream<'static, Result<proto::WriteSegmentsResponse, Status>>;

    async fn write_segments(
        &self,
        request: Request<Streaming<proto::WriteSegmentsRequest>>,
    ) -> Answer<Self::WriteSegmentsStream> {
        let bureau = self.0.caller(&request).map_err(|r| self.0.refuse(r))?;
        let span = span("WriteSegments", &request);
        Ok(Response::new(write::serve(self.0.clone(), bureau, request.into_inner(), span)))
    }

    async fn get_upload(&self, request: Request<proto::GetUploadRequest>) -> Answer<proto::GetUploadResponse> {
        let span = span("GetUpload", &request);
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
        got.instrument(span).await.map(Response::new).map_err(|r| self.0.refuse(r))
    }

    async fn seal_upload(&self, request: Request<proto::SealUploadRequest>) -> Answer<proto::SealUploadResponse> {
        let span = span("SealUpload", &request);
        let sealed = async {
            let bureau = self.0.caller(&request)?;
            self.0.seal(bureau, request.into_inner()).await
        };
        let response = |recording| Response::new(proto::SealUploadResponse { recording: Some(recording) });
        sealed.instrument(span).await.map(response).map_err(|r| self.0.refuse(r))
    }

    async fn abandon_upload(
        &self,
        request: Request<proto::AbandonUploadRequest>,
    ) -> Answer<proto::AbandonUploadResponse> {
        let span = span("AbandonUpload", &request);
        let abandoned = async {
            let bureau = self.0.caller(&request)?;
            let id = recording_id(&request.get_ref().recording_id)?;
            self.0.abandon(bureau, id).await
        };
        let response = |recording| Response::new(proto::AbandonUploadResponse { recording: Some(recording) });
        abandoned.instrument(span).await.map(response).map_err(|r| self.0.refuse(r))
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
