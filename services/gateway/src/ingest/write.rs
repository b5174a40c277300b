//! `WriteSegments`: the stream. Segments are read one after the other and stored side by side; each gets its answer.

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    footage::SegmentRef,
    id::BureauId,
    reason::Reason,
    shape::{LARGE_SEGMENT, MAX_CHUNK},
};
use caselock_log::Topic;
use caselock_proto::v1::{self as proto, write_segments_request::Content, write_segments_response::Outcome};
use caselock_runtime::trace;
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::{Instrument, Span, info_span};

use super::{
    Ingest,
    segment::{Announced, Progress},
};
use caselock_front::{Granted, Refusal, code_name};

use crate::config::{MESSAGE, UNREAD};

/// How long a segment that is under way may take once the gateway drains.
const DRAIN: Duration = Duration::from_secs(30);
/// Answers that may wait for a client that does not read them. Beyond it nothing more is read from the client.
const ANSWERS: usize = 64;

type Sender = mpsc::Sender<Result<proto::WriteSegmentsResponse, Status>>;

/// Serves one stream.
pub fn serve(
    ingest: Arc<Ingest>,
    bureau: BureauId,
    requests: Streaming<proto::WriteSegmentsRequest>,
    span: Span,
    is_traced: bool,
) -> BoxStream<'static, Result<proto::WriteSegmentsResponse, Status>> {
    let (answers, receiver) = mpsc::channel(ANSWERS);
    let ends = Instant::now() + ingest.stream_life();
    let stream = SegmentStream { ingest, bureau, requests, answers, ends, drained: None, is_traced };
    let run = async move {
        let answers = stream.answers.clone();
        // Nothing is read before there is memory for it.
        let admitted = match stream.ingest.admission.stream(&stream.bureau).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let _ = answers.send(Err(stream.ingest.refuse(refusal))).await;
                return;
            }
        };
        let ended = stream.run().await;
        Span::current()
            .record("rpc.response.status_code", code_name(ended.as_ref().map_or_else(Status::code, |()| Code::Ok)));
        if let Err(status) = ended {
            // A client that has gone needs no answer.
            let _ = answers.send(Err(status)).await;
        }
        drop(admitted);
    };
    tokio::spawn(run.instrument(span));
    ReceiverStream::new(receiver).boxed()
}

struct SegmentStream {
    ingest: Arc<Ingest>,
    bureau: BureauId,
    requests: Streaming<proto::WriteSegmentsRequest>,
    answers: Sender,
    ends: Instant,
    /// When what is under way must have ended, once the gateway drains.
    drained: Option<Instant>,
    /// Whether the caller named a trace for all of it: then its segments are part of that, and not of their recordings' own.
    is_traced: bool,
}

impl SegmentStream {
    /// Until the client is done, the stream's life is over, or the gateway drains. What was begun is finished: the answers
    /// end when the last segment's task drops its sender.
    async fn run(mut self) -> Result<(), Status> {
        loop {
            let drain = self.ingest.drain.clone();
            let next = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(self.ends) => return Ok(()),
                next = self.requests.message() => next.map_err(|status| self.unread(status))?,
            };
            match next.map(|request| request.content) {
                None => return Ok(()),
                Some(Some(Content::Header(header))) => self.segment(header).await?,
                Some(_) => return Err(self.broken("a header first: expected one before any chunk")),
            }
        }
    }

    async fn segment(&mut self, header: proto::SegmentHeader) -> Result<(), Status> {
        let admitted = match self.ingest.announce(&self.bureau, &header).await {
            Err(refusal) => Err(refusal),
            Ok(announced) if announced.is_held => {
                self.skip(header.length).await?;
                return self.accept(&announced.segment).await;
            }
            Ok(announced) => {
                let memory = self.ingest.admission.segment(&self.bureau, announced.length).await;
                memory.map(|memory| (announced, memory))
            }
        };
        match admitted {
            Ok((announced, memory)) => self.take(announced, memory).await,
            Err(refusal) => {
                // Its bytes are on their way: they are read past, so that the stream can go on.
                self.skip(header.length).await?;
                self.refuse(&header.recording_id, header.generation, header.index, refusal).await
            }
        }
    }

    async fn take(&mut self, announced: Announced, memory: Granted) -> Result<(), Status> {
        // A segment that trickles in would hold its memory for ever.
        let deadline = self.deadline(announced.length);
        let mut arriving = announced.arriving();
        loop {
            let chunk = self.chunk(deadline).await?;
            match arriving.take(&chunk).map_err(|refusal| self.ingest.refuse(refusal))? {
                Progress::More(more) => arriving = more,
                Progress::Mismatch(segment) => {
                    let message = "the bytes do not have the value of their header: send the segment again";
                    let refusal = Refusal::new(Reason::SegmentValueMismatch, message);
                    let id = segment.recording.to_string();
                    return self.refuse(&id, segment.generation, segment.index, refusal).await;
                }
                Progress::Whole(whole) => {
                    let (ingest, bureau, segment) = (self.ingest.clone(), self.bureau.clone(), whole.segment);
                    // The answer's place is kept first: a client that does not read its answers sends no more either.
                    let answers = timeout_at(deadline, self.answers.clone().reserve_owned()).await;
                    let answers = answers.map_err(|_| self.late("the answers were not read"))?;
                    let answers = answers.map_err(|_| Status::cancelled("the client has gone"))?;
                    let span = info_span!(
                        "segment",
                        otel.kind = "producer",
                        messaging.system = "kafka",
                        messaging.operation.type = "send",
                        messaging.operation.name = "send",
                        messaging.destination.name = Topic::Footage.name(),
                        messaging.destination.partition.id = self.ingest.view.partition(segment.recording),
                        recording = %segment.recording,
                        index = segment.index,
                    );
                    if !self.is_traced {
                        trace::of_recording(&span, None, segment.recording.as_bytes());
                        trace::link_to(&span, &Span::current());
                    }
                    let store = async move {
                        let began = Instant::now();
                        let answer = match ingest.store(&bureau, whole).await {
                            Ok(()) => {
                                ingest.metrics.acknowledged(began.elapsed());
                                accepted(&segment)
                            }
                            Err(refusal) => {
                                ingest.metrics.segment_refused(&bureau, refusal.reason.as_str());
                                let id = segment.recording.to_string();
                                refused(&id, segment.generation, segment.index, refusal)
                            }
                        };
                        // The memory is given back only now.
                        drop(memory);
                        // The client may be gone; it will ask GetUpload.
                        answers.send(Ok(answer));
                    };
                    tokio::spawn(store.instrument(span));
                    return Ok(());
                }
            }
        }
    }

    async fn skip(&mut self, length: u32) -> Result<(), Status> {
        if length > LARGE_SEGMENT {
            return Err(self.broken("a header with the length of a segment: at most 16 MiB"));
        }
        let deadline = self.deadline(length);
        let mut left = length as usize;
        while left > 0 {
            let chunk = self.chunk(deadline).await?;
            left = match left.checked_sub(chunk.len()) {
                Some(left) if !chunk.is_empty() => left,
                _ => return Err(self.broken("chunks that together are as long as the header says")),
            };
        }
        Ok(())
    }

    /// Until when a segment that begins now must be there.
    fn deadline(&self, length: u32) -> Instant {
        let patience = Duration::from_secs(self.ingest.config.chunk_timeout_seconds);
        Instant::now() + patience * length.div_ceil(MAX_CHUNK as u32)
    }

    async fn chunk(&mut self, deadline: Instant) -> Result<bytes::Bytes, Status> {
        let drain = self.ingest.drain.clone();
        let message = loop {
            let limit = self.drained.map_or(deadline, |drained| drained.min(deadline));
            tokio::select! {
                () = drain.cancelled(), if self.drained.is_none() => self.drained = Some(Instant::now() + DRAIN),
                message = timeout_at(limit, self.requests.message()) => break message,
            }
        };
        match message {
            Ok(Ok(Some(proto::WriteSegmentsRequest { content: Some(Content::Chunk(chunk)) }))) => {
                self.ingest.metrics.received(chunk.len());
                Ok(chunk)
            }
            Ok(Ok(Some(_))) => Err(self.broken("the chunks of the segment that was begun")),
            Ok(Ok(None)) => Err(self.broken("the rest of the segment before the end of the stream")),
            Ok(Err(status)) => Err(self.unread(status)),
            Err(_) => Err(self.late("the segment did not come in time")),
        }
    }

    async fn accept(&self, segment: &SegmentRef) -> Result<(), Status> {
        self.answer(accepted(segment)).await
    }

    async fn refuse(&self, id: &str, generation: u32, index: u32, refusal: Refusal) -> Result<(), Status> {
        self.ingest.metrics.segment_refused(&self.bureau, refusal.reason.as_str());
        self.answer(refused(id, generation, index, refusal)).await
    }

    async fn answer(&self, answer: proto::WriteSegmentsResponse) -> Result<(), Status> {
        let sent =
            timeout(UNREAD, self.answers.send(Ok(answer))).await.map_err(|_| self.late("the answers were not read"))?;
        sent.map_err(|_| Status::cancelled("the client has gone"))
    }

    fn late(&self, what: &str) -> Status {
        self.ingest.refuse(Refusal::new(Reason::SegmentLate, format!("{what}: open another stream")))
    }

    /// What could not be read of the stream: the client sent what it may not, or it has gone.
    fn unread(&self, status: Status) -> Status {
        match caselock_front::reason(&status) {
            Some(_) => {
                self.broken(&format!("a message of at most {MESSAGE} bytes as in the proto: {}", status.message()))
            }
            None => status,
        }
    }

    fn broken(&self, expected: &str) -> Status {
        self.ingest.refuse(Refusal::field(Reason::StreamInvalid, "content", expected))
    }
}

fn accepted(segment: &SegmentRef) -> proto::WriteSegmentsResponse {
    let outcome = Outcome::Accepted(proto::SegmentAccepted {
        recording_id: segment.recording.to_string(),
        generation: segment.generation,
        index: segment.index,
    });
    proto::WriteSegmentsResponse { outcome: Some(outcome) }
}

fn refused(id: &str, generation: u32, index: u32, refusal: Refusal) -> proto::WriteSegmentsResponse {
    let retry_after = refusal.retry_after().and_then(|delay| delay.try_into().ok());
    let outcome = Outcome::Refused(proto::SegmentRefused {
        recording_id: id.to_owned(),
        generation,
        index,
        reason: refusal.reason.as_str().to_owned(),
        message: refusal.message,
        retry_after,
    });
    proto::WriteSegmentsResponse { outcome: Some(outcome) }
}
