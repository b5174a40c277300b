//! What every service writes in the same way: facts, events, dead letters.

use bytes::Bytes;
use caselock_domain::{
    dead_letter,
    event::RecordingEvent,
    fact::{Fact, FactKey},
    id::{BureauId, RecordingId},
    partition,
    time::Timestamp,
};

use crate::{Entry, Log, LogError, Offset, Record, Topic};

/// Appends a fact to `uploads`, or with `None` its tombstone. Durable when it returns.
pub async fn append_fact(log: &dyn Log, key: &FactKey, fact: Option<&Fact>) -> Result<Offset, LogError> {
    let partition = partition::of(key.recording, log.partitions(Topic::Uploads));
    let record = match fact {
        Some(fact) => Record::new(key.encode(), fact.encode()).header("cl-schema", "1"),
        None => Record::tombstone(key.encode()),
    };
    log.append(Topic::Uploads, partition, record).await
}

/// Checks that a record of `uploads` lies in the partition its recording has by the present count. A topic that was given
/// more partitions spreads a recording's facts over two of them: nobody may decide anything on half of them.
pub fn check_partition(log: &dyn Log, entry: &Entry) -> Result<(), LogError> {
    let Ok(key) = FactKey::decode(&entry.record.key) else { return Ok(()) };
    let count = log.partitions(Topic::Uploads);
    let expected = partition::of(key.recording, count);
    if entry.partition == expected {
        return Ok(());
    }
    let problem = format!(
        "recording {} has facts in partition {}, and with {count} partitions belongs in {expected}: the partition count \
         was changed; it is fixed for the topic's life",
        key.recording, entry.partition
    );
    Err(LogError::Misconfigured { topic: Topic::Uploads, problem })
}

/// Publishes an event, as of the time of the fact it reports. Repeating it repeats its id.
pub async fn publish(
    log: &dyn Log,
    event: &RecordingEvent,
    bureau: &BureauId,
    recording: RecordingId,
    generation: u32,
    at: Timestamp,
) -> Result<(), LogError> {
    let record = event.record(bureau, recording, generation, at);
    let headers = record.headers.into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value))).collect();
    let record = Record { key: record.key, headers, payload: Some(record.payload) };
    log.append(Topic::Events, partition::of(recording, log.partitions(Topic::Events)), record).await?;
    Ok(())
}

/// Notes what could not be done with a record, and why: its key and headers, where it lay, never its bytes.
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
    // Keys are recordings' ids as text; what has another key goes to the first partition.
    let id = std::str::from_utf8(&record.key).ok().and_then(|text| text.parse().ok());
    let partition = id.map_or(0, |id| partition::of(id, log.partitions(Topic::DeadLetters)));
    log.append(Topic::DeadLetters, partition, record).await?;
    Ok(())
}
