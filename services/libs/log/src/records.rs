//! What every service writes in the same way: facts, events, dead letters.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use caselock_domain::{
    dead_letter,
    event::{EventRecord, RecordingEvent},
    fact::{Fact, FactKey},
    id::{BureauId, RecordingId},
    partition,
    time::Timestamp,
};
use tokio::time::{Instant, timeout_at};

use crate::{Entry, Followed, Log, LogError, Offset, Record, Topic};

/// A media job is never larger.
const JOB: usize = 64 << 10;

/// Appends a fact to `uploads`, or with `None` its tombstone. Durable when it returns.
pub async fn append_fact(log: &dyn Log, key: &FactKey, fact: Option<&Fact>) -> Result<Offset, LogError> {
    let partition = partition::of(key.recording, log.partitions(Topic::Uploads));
    let record = match fact {
        Some(fact) => Record::new(key.encode(), fact.encode()).header("cl-schema", "1"),
        None => Record::tombstone(key.encode()),
    };
    log.append(Topic::Uploads, partition, record).await
}

/// Publishes an event, as of the time of the fact it reports, with the `traceparent` of what was done. Repeating it repeats its id.
pub async fn publish(
    log: &dyn Log,
    event: &RecordingEvent,
    bureau: &BureauId,
    recording: RecordingId,
    generation: u32,
    at: Timestamp,
    traceparent: Option<String>,
) -> Result<(), LogError> {
    append_event(log, event.record(bureau, recording, generation, at), traceparent).await
}

/// Appends an event: to the partition that its key, the id of a recording or a case, has by our own hash.
pub async fn append_event(log: &dyn Log, event: EventRecord, traceparent: Option<String>) -> Result<(), LogError> {
    let id = std::str::from_utf8(&event.key).ok().and_then(|text| text.parse().ok());
    let partition = id.map_or(0, |id| partition::of(id, log.partitions(Topic::Events)));
    let headers = event.headers.into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value)));
    // CloudEvents' extension for distributed tracing.
    let headers = headers.chain(traceparent.map(|value| ("ce_traceparent".to_owned(), value.into()))).collect();
    let record = Record { key: event.key, headers, payload: Some(event.payload) };
    log.append(Topic::Events, partition, record).await?;
    Ok(())
}

/// Notes what could not be done with a record, and why: its key and headers, where it lay; of footage never its bytes, of a media job all, so
/// that it can be given back.
pub async fn append_dead_letter(
    log: &dyn Log,
    source: Topic,
    entry: &Entry,
    reason: &str,
    detail: &str,
) -> Result<(), LogError> {
    let payload = Some(Bytes::copy_from_slice(detail.as_bytes()));
    let mut record = Record { key: entry.record.key.clone(), headers: entry.record.headers.clone(), payload };
    for (name, value) in dead_letter::headers(source.name(), entry.partition, entry.offset, reason) {
        record = record.header(name, value);
    }
    // Of what is no job of ours it might be more than a record may have beside its headers.
    let job = entry.record.payload.as_ref().filter(|job| source == Topic::MediaJobs && job.len() <= JOB);
    if let Some(job) = job {
        record = record.header(dead_letter::RECORD, job.clone());
    }
    // Keys are recordings' ids as text; what has another key goes to the first partition.
    let id = std::str::from_utf8(&record.key).ok().and_then(|text| text.parse().ok());
    let partition = id.map_or(0, |id| partition::of(id, log.partitions(Topic::DeadLetters)));
    log.append(Topic::DeadLetters, partition, record).await?;
    Ok(())
}

/// How long the partitions that have not ended may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Reads all of a topic that is there, from its start to an end: of each partition in order, of several by turns. An error where those that have
/// not come to an end say nothing for a minute: they may have no leader.
pub async fn read_to_end(log: &dyn Log, topic: Topic, mut each: impl FnMut(Entry)) -> Result<(), LogError> {
    let partitions = log.partitions(topic);
    let mut follower = log.follow(topic, (0..partitions).map(|partition| (partition, 0)).collect()).await?;
    // Each end is told whenever it is reached anew.
    let mut ended = BTreeSet::new();
    let mut patience = Instant::now() + SILENCE;
    while ended.len() < partitions as usize {
        let Ok(told) = timeout_at(patience, follower.recv()).await else {
            let silent = (0..partitions).filter(|partition| !ended.contains(partition)).map(|p| p.to_string());
            let silent = silent.collect::<Vec<_>>().join(", ");
            return Err(LogError::Unavailable(format!(
                "for a minute {topic} has said nothing of its partitions {silent}"
            )));
        };
        match told.ok_or_else(|| LogError::Unavailable("the follower ended".into()))?? {
            Followed::Entry(entry) => {
                if !ended.contains(&entry.partition) {
                    patience = Instant::now() + SILENCE;
                }
                each(entry);
            }
            Followed::End { partition, .. } => {
                if ended.insert(partition) {
                    patience = Instant::now() + SILENCE;
                }
            }
        }
    }
    Ok(())
}
