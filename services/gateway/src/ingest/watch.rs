//! `WatchRecordings`: a snapshot, then changes.

use std::{collections::HashSet, sync::Arc};

use caselock_domain::{id::BureauId, id::RecordingId, reason::Reason, time};
use caselock_proto::v1::{self as proto, watch_recordings_response::Content};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Ingest, answer, recording_id};
use caselock_front::Refusal;

const QUEUE: usize = 64;
/// The most recordings one watch may name.
const MOST: usize = 10_000;

type Responses = mpsc::Sender<Result<proto::WatchRecordingsResponse, Status>>;

/// Serves one watch. One that can't be had now ends with a refusal.
pub fn serve(
    ingest: Arc<Ingest>,
    bureau: BureauId,
    ids: &[String],
) -> Result<BoxStream<'static, Result<proto::WatchRecordingsResponse, Status>>, Refusal> {
    if ids.len() > MOST {
        return Err(Refusal::field(Reason::StreamInvalid, "recording_ids", "at most 10,000 ids"));
    }
    let only = ids.iter().map(|id| recording_id(id)).collect::<Result<HashSet<_>, _>>()?;
    let (responses, receiver) = mpsc::channel(QUEUE);
    let watch = Watch { ingest, bureau, only, responses };
    // It ends when the client goes, or the gateway drains.
    tokio::spawn(async move {
        let (drain, responses) = (watch.ingest.drain.clone(), watch.responses.clone());
        tokio::select! {
            _ = watch.admitted() => {}
            () = drain.cancelled() => {}
            () = responses.closed() => {}
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

struct Watch {
    ingest: Arc<Ingest>,
    bureau: BureauId,
    only: HashSet<RecordingId>,
    responses: Responses,
}

impl Watch {
    /// Runs once there is memory for it.
    async fn admitted(self) -> Option<()> {
        let ids = if self.only.is_empty() { self.ingest.view.recordings(&self.bureau).len() } else { self.only.len() };
        match self.ingest.admission.watch(&self.bureau, ids, QUEUE).await {
            Ok(_memory) => self.run().await,
            Err(refusal) => self.responses.send(Err(self.ingest.refuse(refusal))).await.ok(),
        }
    }

    /// Returns `None` when the client has gone.
    async fn run(self) -> Option<()> {
        loop {
            // Changes first, then the snapshot: nothing falls between them.
            let mut changes = self.ingest.view.changes();
            let snapshot = if self.only.is_empty() {
                self.ingest.view.recordings(&self.bureau)
            } else {
                self.only.iter().copied().collect()
            };
            for id in snapshot {
                self.tell(id).await?;
            }
            self.send(Content::SnapshotEnd(proto::SnapshotEnd {})).await?;
            loop {
                match changes.recv().await {
                    Ok(id) => self.tell(id).await?,
                    // Too far behind: a new snapshot says everything that was missed.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    async fn tell(&self, id: RecordingId) -> Option<()> {
        if !self.only.is_empty() && !self.only.contains(&id) {
            return Some(());
        }
        let Some(recording) = self.ingest.view.look(&self.bureau, id, |facts| answer::recording(id, facts)) else {
            return Some(());
        };
        let seen_at = Some(time::to_proto((self.ingest.clock)()));
        self.send(Content::Change(proto::RecordingChange { recording: Some(recording), seen_at })).await
    }

    async fn send(&self, content: Content) -> Option<()> {
        let response = proto::WatchRecordingsResponse { content: Some(content) };
        self.responses.send(Ok(response)).await.ok()
    }
}
