//! Events into the database: each batch in one transaction with how far was read, so that whatever is restarted, nothing is
//! missed and nothing counts twice.

use std::{sync::Arc, time::Duration};

use caselock_domain::id::{BureauId, RecordingId};
use caselock_log::{Entry, Followed, Log, LogError, Topic};
use caselock_runtime::health::Health;
use caselock_store::Store;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::{Db, Recording, RegistryError, db::advance, documents};

/// How long to wait before following again after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The events whose documents are read anew.
const KINDS: [&str; 5] = [
    "io.caselock.recording.stored.v1",
    "io.caselock.recording.verified.v1",
    "io.caselock.recording.verification-failed.v1",
    "io.caselock.recording.derived.v1",
    "io.caselock.recording.derivation-failed.v1",
];

/// Follows the events.
#[derive(Clone)]
pub struct Following {
    /// The database.
    pub db: Db,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
}

impl Following {
    /// Follows until `stop`. The condition `registry-events` of `health` holds once the events were read to their end.
    pub async fn run(self, health: Health, stop: CancellationToken) {
        health.expect("registry-events");
        let follow = async {
            loop {
                if let Err(error) = self.follow(&health).await {
                    tracing::warn!(%error, "following the events failed; trying again");
                    health.down("registry-events", error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    async fn follow(&self, health: &Health) -> Result<(), RegistryError> {
        let known = self.db.positions().await?;
        let partitions = 0..self.log.partitions(Topic::Events);
        let from: Vec<_> = partitions.map(|p| (p, known.get(&p).copied().unwrap_or_default())).collect();
        let mut unread: Vec<u32> = from.iter().map(|(partition, _)| *partition).collect();
        let mut follower = self.log.follow(Topic::Events, from).await?;
        while let Some(followed) = follower.recv().await {
            match followed? {
                Followed::Entry(entry) => self.take(&entry).await?,
                Followed::End { partition, .. } => {
                    unread.retain(|p| *p != partition);
                    if unread.is_empty() {
                        health.up("registry-events");
                    }
                }
            }
        }
        Err(LogError::Unavailable("the follower ended".into()).into())
    }

    /// Reads every partition to the end it has now, and returns: what was published before the call is in the database.
    pub async fn catch_up(&self) -> Result<(), RegistryError> {
        let known = self.db.positions().await?;
        for partition in 0..self.log.partitions(Topic::Events) {
            let end = self.log.bounds(Topic::Events, partition).await?.end;
            let from = known.get(&partition).copied().unwrap_or_default();
            if from >= end {
                continue;
            }
            let mut follower = self.log.follow(Topic::Events, vec![(partition, from)]).await?;
            loop {
                match follower.recv().await {
                    Some(followed) => match followed? {
                        Followed::Entry(entry) => self.take(&entry).await?,
                        Followed::End { position, .. } if position >= end => break,
                        Followed::End { .. } => {}
                    },
                    None => return Err(LogError::Unavailable("the follower ended".into()).into()),
                }
            }
        }
        Ok(())
    }

    /// One event. What it says is read from the documents it tells of: they are there before it is.
    async fn take(&self, entry: &Entry) -> Result<(), RegistryError> {
        let recording = match subject(entry) {
            Some((bureau, id, generation)) => {
                let documents = documents::read(&*self.store, &bureau, id, generation).await?;
                if documents.is_none() {
                    tracing::error!(recording = %id, generation, "an event tells of a recording that has no manifest");
                }
                documents
            }
            None => None,
        };
        let mut transaction = self.db.begin().await?;
        if let Some(documents) = recording {
            Recording::of(&documents).save(&mut transaction).await?;
        }
        advance(&mut transaction, entry.partition, entry.offset + 1).await?;
        Ok(transaction.commit().await?)
    }
}

/// What all these events begin with; the rest is passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct About {
    #[prost(string, tag = "1")]
    recording_id: String,
    #[prost(uint32, tag = "2")]
    generation: u32,
    #[prost(string, tag = "3")]
    bureau: String,
}

/// The recording that an event tells of, where its documents say more.
fn subject(entry: &Entry) -> Option<(BureauId, RecordingId, u32)> {
    let kind = entry.record.header_value("ce_type")?;
    if !KINDS.iter().any(|known| known.as_bytes() == &kind[..]) {
        return None;
    }
    let parsed = About::decode(entry.record.payload.clone()?).ok().and_then(|message| {
        Some((message.bureau.parse().ok()?, message.recording_id.parse().ok()?, message.generation))
    });
    if parsed.is_none() {
        tracing::error!(partition = entry.partition, offset = entry.offset, "an event can't be read");
    }
    parsed
}
