//! `WatchRecordings`: a snapshot, then changes.

use std::{collections::HashSet, sync::Arc};

use caselock_domain::{id::BureauId, id::RecordingId, reason::Reason, time};
use caselock_proto::v1::{self as proto, watch_recordings_response::Content};
use futures::{StreamExt, stream::BoxStream};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Ingest, answer, recording_id};
use caselock_front::Refusal;

use crate::config::UNREAD;

/// Answers that may wait for a client that does not read them.
const QUEUE: usize = 16;
/// The most recordings one watch may name.
const MOST: usize = 10_000;

type Responses = mpsc::Sender<Result<proto::WatchRecordingsResponse, Status>>;

/// Serves one watch. It ends where its client reads nothing for a minute.
pub fn serve(
    ingest: Arc<Ingest>,
    bureau: BureauId,
    ids: &[String],
) -> Result<BoxStream<'static, Result<proto::WatchRecordingsResponse, Status>>, Refusal> {
    if ids.len() > MOST {
        return Err(Refusal::field(Reason::StreamInvalid, "recording_ids", "at most 10,000 ids"));
    }
    let memory = ingest.admission.watch(&bureau, QUEUE, ids.len())?;
    let only = ids.iter().map(|id| recording_id(id)).collect::<Result<HashSet<_>, _>>()?;
    let (responses, receiver) = mpsc::channel(QUEUE);
    let watch = Watch { ingest, bureau, only, responses };
    // It ends when the client goes, or the gateway drains.
    tokio::spawn(async move {
        let (drain, responses) = (watch.ingest.drain.clone(), watch.responses.clone());
        tokio::select! {
            _ = watch.run() => {}
            () = drain.cancelled() => {}
            () = responses.closed() => {}
        }
        drop(memory);
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
    /// Returns `None` when the client has gone.
    async fn run(self) -> Option<()> {
        loop {
            // Changes first, then the snapshot: nothing falls between them.
            let mut changes = self.ingest.view.changes(&self.only);
            self.snapshot().await?;
            self.send(Content::SnapshotEnd(proto::SnapshotEnd {})).await?;
            // An error: too far behind. A new snapshot says everything that was missed.
            while let Ok(id) = changes.next().await? {
                self.tell(id).await?;
            }
        }
    }

    async fn snapshot(&self) -> Option<()> {
        if !self.only.is_empty() {
            for id in &self.only {
                self.tell(*id).await?;
            }
            return Some(());
        }
        let count = self.ingest.view.count(&self.bureau);
        let _memory = self.ingest.admission.snapshot(&self.bureau, count).await;
        for id in self.ingest.view.recordings(&self.bureau) {
            self.tell(id).await?;
        }
        Some(())
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
        timeout(UNREAD, self.responses.send(Ok(response))).await.ok()?.ok()
    }
}
