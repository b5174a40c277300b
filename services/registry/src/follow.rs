//! Events and facts into the database: each batch in one transaction with how far was read, so that whatever is restarted,
//! nothing is missed and nothing counts twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use caselock_domain::{
    event::REGISTRY,
    fact::{self, Fact},
    id::{BureauId, RecordingId},
    object_key,
    time::Timestamp,
};
use caselock_log::{Entry, Followed, Follower, Log, LogError, Offset, Topic};
use caselock_proto::events::v1::{DeadlineExtended, RecordingDisposed, RetentionChanged};
use caselock_runtime::health::Health;
use prost::Message;
use sqlx::{Any, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{
    Cases, Recording, RegistryError,
    db::advance,
    deadlines::{self, Origin},
    disposal, documents, locks,
    outbox::{Telling, was_told},
    rebuild::pass_over,
};

/// How long to wait before following again after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Records taken into one transaction, at most; of events, whose documents may be large, fewer.
const BATCH: usize = 200;
const DOCUMENTS: usize = 20;
/// The topics that are followed.
const TOPICS: [Topic; 2] = [Topic::Uploads, Topic::Events];
/// The events whose documents are read anew.
const KINDS: [&str; 5] = [
    "io.caselock.recording.stored.v1",
    "io.caselock.recording.verified.v1",
    "io.caselock.recording.verification-failed.v1",
    "io.caselock.recording.derived.v1",
    "io.caselock.recording.derivation-failed.v1",
];

/// Follows events and facts.
#[derive(Clone)]
pub struct Following {
    /// What they are taken into.
    pub cases: Cases,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The place that a topic no longer has: it was made anew. It may grow beyond that, and is refused all the same.
    shorter: Arc<OnceLock<Shorter>>,
}

/// A topic, a partition, up to where it was read, and where it ended.
type Shorter = (Topic, u32, Offset, Offset);

impl Following {
    /// Of this log, into that.
    pub fn new(cases: Cases, log: Arc<dyn Log>) -> Self {
        Self { cases, log, shorter: Arc::default() }
    }

    /// Follows until `stop`. The condition `registry-events` of `health` holds once facts and events were read to their end.
    pub async fn run(self: Arc<Self>, health: Health, stop: CancellationToken) {
        health.expect("registry-events");
        let follow = async {
            loop {
                if let Err(error) = self.follow(&health).await {
                    tracing::warn!(%error, "following facts and events failed; trying again");
                    health.down("registry-events", error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    async fn follow(&self, health: &Health) -> Result<(), RegistryError> {
        let unread = Mutex::new(TOPICS.to_vec());
        let [uploads, events] = TOPICS;
        let follow = |topic| Box::pin(self.follow_topic(topic, &unread, health));
        tokio::try_join!(follow(uploads), follow(events)).map(drop)
    }

    async fn follow_topic(
        &self,
        topic: Topic,
        topics: &Mutex<Vec<Topic>>,
        health: &Health,
    ) -> Result<(), RegistryError> {
        let known = self.cases.db.positions(&self.log.name(topic)).await?;
        let partitions = 0..self.log.partitions(topic);
        let from: Vec<_> = partitions.map(|p| (p, known.get(&p).copied().unwrap_or_default())).collect();
        let mut unread: Vec<u32> = from.iter().map(|(partition, _)| *partition).collect();
        let mut follower = self.log.follow(topic, from).await?;
        let mut passed_over = PassedOver::default();
        loop {
            let batch = next_batch(topic, &mut follower).await?;
            self.take(topic, &batch.entries, &mut passed_over).await?;
            for (partition, _) in batch.ends {
                unread.retain(|p| *p != partition);
            }
            if unread.is_empty() {
                let mut topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
                topics.retain(|t| *t != topic);
                if topics.is_empty() {
                    health.up("registry-events");
                }
            }
        }
    }

    /// Reads every partition to the end it has now, and returns: what was written before the call is in the database. Of a topic that was made
    /// anew nobody can say so: it is refused from the first time on that it is found shorter than what was read, as long as this process lasts.
    pub async fn catch_up(&self) -> Result<(), RegistryError> {
        if let Some(&(topic, partition, known, end)) = self.shorter.get() {
            return Err(RegistryError::AnotherLog { topic, partition, known, end });
        }
        for topic in TOPICS {
            let known = self.cases.db.positions(&self.log.name(topic)).await?;
            let mut behind = BTreeMap::new();
            for partition in 0..self.log.partitions(topic) {
                let end = self.log.end(topic, partition).await?;
                let known = known.get(&partition).copied().unwrap_or_default();
                if known > end {
                    self.shorter.get_or_init(|| (topic, partition, known, end));
                    return Err(RegistryError::AnotherLog { topic, partition, known, end });
                }
                if known < end {
                    behind.insert(partition, end);
                }
            }
            if behind.is_empty() {
                continue;
            }
            let from = behind.keys().map(|p| (*p, known.get(p).copied().unwrap_or_default())).collect();
            let mut follower = self.log.follow(topic, from).await?;
            let mut passed_over = PassedOver::default();
            while !behind.is_empty() {
                let batch = next_batch(topic, &mut follower).await?;
                self.take(topic, &batch.entries, &mut passed_over).await?;
                for (partition, position) in batch.ends {
                    if behind.get(&partition).is_some_and(|end| position >= *end) {
                        behind.remove(&partition);
                        self.reached(topic, partition, position).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes an end that no record stands before: what was there is compacted away, and need not be looked for again.
    async fn reached(&self, topic: Topic, partition: u32, position: Offset) -> Result<(), RegistryError> {
        let mut tx = self.cases.db.begin().await?;
        advance(&mut tx, &self.log.name(topic), partition, position).await?;
        Ok(tx.commit().await?)
    }

    /// A batch, in one transaction with how far it goes. Most facts say nothing to the registry: for them alone the database is
    /// asked once a second.
    async fn take(&self, topic: Topic, entries: &[Entry], passed: &mut PassedOver) -> Result<(), RegistryError> {
        passed.next.extend(entries.iter().map(|entry| (entry.partition, entry.offset + 1)));
        // Documents are read before the transaction begins: the database waits for no store.
        let mut read = Vec::new();
        for entry in entries {
            read.push(match topic {
                Topic::Events => self.read_event(entry).await?,
                _ => fact_of(entry),
            });
        }
        let says_nothing = read.iter().all(|what| matches!(what, What::Nothing));
        if says_nothing && (passed.next.is_empty() || passed.noted_at.is_some_and(|at| at.elapsed() < PAUSE)) {
            return Ok(());
        }
        let mut tx = self.cases.db.begin().await?;
        for what in read {
            self.note(&mut tx, what).await?;
        }
        let name = self.log.name(topic);
        for (partition, next) in &passed.next {
            advance(&mut tx, &name, *partition, *next).await?;
        }
        tx.commit().await?;
        *passed = PassedOver { next: BTreeMap::new(), noted_at: Some(Instant::now()) };
        Ok(())
    }

    async fn note(&self, tx: &mut Transaction<'static, Any>, what: What) -> Result<(), RegistryError> {
        let rules = &self.cases.rules;
        match what {
            What::Nothing => Ok(()),
            // What is read late must not bring back what was removed since.
            What::Stored(documents) => {
                match disposal::covers(tx, &documents.id(), documents.manifest.generation).await? {
                    true => Ok(()),
                    false => documents.save(tx, rules, Telling::News).await,
                }
            }
            What::Awaited { id, generation, .. } | What::Arrived { id, generation, .. }
                if disposal::covers(tx, &id, generation).await? =>
            {
                Ok(())
            }
            // What is stored by now is known better.
            What::Awaited { id, generation, .. } if Recording::covers(tx, &id, generation).await? => Ok(()),
            What::Awaited { bureau, id, metadata, origin, .. } => {
                deadlines::expect(tx, rules, (&bureau, &id), &metadata, (origin, None), Telling::News).await
            }
            What::Arrived { id, at, .. } => deadlines::arrived(tx, &id, at).await,
            What::Disposed { bureau, id, generation, at } => {
                disposal::is_known(tx, (&bureau, &id), generation, at).await
            }
            What::Told { id, seq, about } => {
                let is_new = was_told(tx, &id, seq).await?;
                match about {
                    // What this database told itself it knows.
                    Some(About::Retention(changed)) if is_new => locks::was_told(tx, &changed).await,
                    Some(About::Retention(_)) => Ok(()),
                    Some(About::Disposal(disposed)) => disposal::was_done(tx, &disposed).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// What an event says. Of recordings and cases that is read from the documents it tells of: they are there before it is.
    async fn read_event(&self, entry: &Entry) -> Result<What, RegistryError> {
        let header = |name: &str| {
            let value = entry.record.header_value(name)?;
            String::from_utf8(value.to_vec()).ok()
        };
        let Some(kind) = header("ce_type") else { return Ok(What::Nothing) };
        if header("ce_source").is_some_and(|source| is_own(&source)) {
            let (Some(id), Some(seq)) = (header("ce_id"), header("ce_sequence").and_then(|s| s.parse().ok())) else {
                return Ok(What::Nothing);
            };
            let payload = entry.record.payload.clone().unwrap_or_default();
            let about = match kind.as_str() {
                "io.caselock.retention.changed.v1" => {
                    RetentionChanged::decode(payload).ok().map(|changed| About::Retention(Box::new(changed)))
                }
                "io.caselock.recording.disposed.v1" => RecordingDisposed::decode(payload).ok().map(About::Disposal),
                "io.caselock.deadline.extended.v1" => {
                    self.read_extension(payload).await?;
                    None
                }
                _ => {
                    self.read_case(&kind, payload).await?;
                    None
                }
            };
            return Ok(What::Told { id, seq, about });
        }
        let Some((bureau, id, generation)) = subject(entry, &kind) else { return Ok(What::Nothing) };
        if disposal::is_disposed(&self.cases.db, id, generation).await? {
            return Ok(What::Nothing);
        }
        let documents = documents::read(&*self.cases.store, &bureau, id, generation).await?;
        if documents.is_none() {
            tracing::error!(recording = %id, generation, "an event tells of a recording that has no manifest");
        }
        Ok(documents.map_or(What::Nothing, |documents| What::Stored(Box::new(documents))))
    }

    /// A database that was made anew finds extensions by their events.
    async fn read_extension(&self, payload: bytes::Bytes) -> Result<(), RegistryError> {
        let Ok(event) = DeadlineExtended::decode(payload) else { return Ok(()) };
        let (Ok(bureau), Ok(id)) = (event.bureau.parse(), event.recording_id.parse()) else { return Ok(()) };
        let key = object_key::extension(&bureau, id, event.extensions.into());
        pass_over(&key, self.cases.adopt_extension(&key).await)
    }

    /// A database that was made anew finds the cases by their events.
    async fn read_case(&self, kind: &str, payload: bytes::Bytes) -> Result<(), RegistryError> {
        if !kind.starts_with("io.caselock.case.") {
            return Ok(());
        }
        let Ok(event) = AboutCase::decode(payload) else { return Ok(()) };
        self.cases.adopt_up_to(&event.bureau, &event.number, event.entry).await
    }
}

/// The first fields of every event about a case; the rest is passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct AboutCase {
    #[prost(string, tag = "2")]
    bureau: String,
    #[prost(string, tag = "3")]
    number: String,
    #[prost(uint64, tag = "4")]
    entry: u64,
}

/// What a record says.
enum What {
    Nothing,
    Stored(Box<documents::Documents>),
    Awaited {
        bureau: String,
        id: String,
        generation: u32,
        metadata: Box<caselock_domain::metadata::Metadata>,
        origin: Origin,
    },
    Arrived {
        id: String,
        generation: u32,
        at: Timestamp,
    },
    Disposed {
        bureau: String,
        id: String,
        generation: u32,
        at: Timestamp,
    },
    Told {
        id: String,
        seq: i64,
        about: Option<About>,
    },
}

/// What of its own events the registry reads.
enum About {
    Retention(Box<RetentionChanged>),
    Disposal(RecordingDisposed),
}

/// How far was read of each partition that the database does not know yet, and when it was told last.
#[derive(Default)]
struct PassedOver {
    next: BTreeMap<u32, Offset>,
    noted_at: Option<Instant>,
}

/// Records that are there, and ends that were reached.
struct Batch {
    entries: Vec<Entry>,
    ends: Vec<(u32, Offset)>,
}

/// Waits for the next record, and takes with it what has come by then.
async fn next_batch(topic: Topic, follower: &mut Follower) -> Result<Batch, RegistryError> {
    let most = if topic == Topic::Events { DOCUMENTS } else { BATCH };
    let mut batch = Batch { entries: Vec::new(), ends: Vec::new() };
    let mut next = follower.recv().await;
    loop {
        match next {
            Some(followed) => match followed? {
                Followed::Entry(entry) => batch.entries.push(entry),
                Followed::End { partition, position } => batch.ends.push((partition, position)),
            },
            None => return Err(LogError::Unavailable("the follower ended".into()).into()),
        }
        if batch.entries.len() >= most {
            return Ok(batch);
        }
        next = match follower.try_recv() {
            Ok(followed) => Some(followed),
            Err(_) => return Ok(batch),
        };
    }
}

/// Whether a source is the registry's, of whatever bureau; one may be called registry as well.
fn is_own(source: &str) -> bool {
    let bureau = source.strip_prefix("/caselock/bureaus/").and_then(|rest| rest.strip_suffix(REGISTRY));
    bureau.is_some_and(|bureau| !bureau.is_empty() && !bureau.contains('/'))
}

/// What a fact says of deadlines and disposals.
fn fact_of(entry: &Entry) -> What {
    let (key, fact) = match fact::decode(&entry.record.key, entry.record.payload.as_deref()) {
        Ok((key, Some(fact))) => (key, fact),
        Ok((_, None)) => return What::Nothing,
        Err(error) => {
            tracing::error!(%error, partition = entry.partition, offset = entry.offset, "a fact can't be read");
            return What::Nothing;
        }
    };
    let id = key.recording.to_string();
    match fact {
        Fact::Announced(announced) => What::Awaited {
            bureau: announced.bureau.to_string(),
            id,
            generation: key.generation,
            metadata: Box::new(announced.metadata),
            origin: Origin::Announced,
        },
        Fact::Opened(opened) => What::Awaited {
            bureau: opened.bureau.to_string(),
            id,
            generation: key.generation,
            metadata: Box::new(opened.metadata),
            origin: Origin::Opened,
        },
        Fact::Completed(completed) => What::Arrived { id, generation: key.generation, at: completed.stored_at },
        // The completion's fact may be gone: the receipt says the same, and stays.
        Fact::Receipted(receipt, _) => match receipt.payload() {
            Ok(payload) => What::Arrived { id, generation: key.generation, at: payload.stored_at },
            Err(_) => What::Nothing,
        },
        Fact::Disposed(disposed) => What::Disposed {
            bureau: disposed.bureau.to_string(),
            id,
            generation: key.generation,
            at: disposed.disposed_at,
        },
        _ => What::Nothing,
    }
}

/// What all these events begin with; the rest is passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct AboutRecording {
    #[prost(string, tag = "1")]
    recording_id: String,
    #[prost(uint32, tag = "2")]
    generation: u32,
    #[prost(string, tag = "3")]
    bureau: String,
}

/// The recording that an event tells of, where its documents say more.
fn subject(entry: &Entry, kind: &str) -> Option<(BureauId, RecordingId, u32)> {
    if !KINDS.contains(&kind) {
        return None;
    }
    let parsed = AboutRecording::decode(entry.record.payload.clone()?).ok().and_then(|message| {
        Some((message.bureau.parse().ok()?, message.recording_id.parse().ok()?, message.generation))
    });
    if parsed.is_none() {
        tracing::error!(partition = entry.partition, offset = entry.offset, "an event can't be read");
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bureau_may_be_called_registry() {
        assert!(is_own("/caselock/bureaus/demo/registry"));
        assert!(is_own("/caselock/bureaus/registry/registry"));
        for other in
            ["/caselock/bureaus/registry", "/caselock/bureaus/demo", "/caselock/bureaus//registry", "/registry"]
        {
            assert!(!is_own(other), "{other}");
        }
    }
}
