//! Whether everything is there: each recording's receipt, its event, its object under its lock, with its own bytes.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use caselock_domain::{
    object_key,
    receipt::{KeyRing, Receipt, ReceiptPayload},
};
use caselock_log::{Topic, read_to_end};
use caselock_log_kafka::KafkaLog;
use caselock_proto::events::v1::RecordingStored;
use caselock_store::{Store, oldest_version};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use crate::{
    connection::{Receipts, Servers},
    record::{self, Line},
};

/// Objects read back at once.
const AT_ONCE: usize = 4;
/// How long events may take after the last receipt.
const EVENTS: Duration = Duration::from_secs(60);

/// A past run.
#[derive(Debug, Args)]
pub struct Again {
    /// The run's folder, or its record.jsonl.
    run: PathBuf,
    #[command(flatten)]
    receipts: Receipts,
    #[command(flatten)]
    servers: Servers,
}

/// Checks a past run, and says what is not as it must be.
pub async fn run(again: &Again) -> anyhow::Result<bool> {
    let path = if again.run.is_dir() { again.run.join("record.jsonl") } else { again.run.clone() };
    let (recordings, lines) = record::read(&path)?;
    ensure!(!lines.is_empty(), "{} has no recordings", path.display());
    let mut problems = check(&again.servers, &again.receipts.keys()?, &lines).await?;
    if lines.len() != recordings {
        let found = lines.len();
        problems.push(format!("{} has {found} of the run's {recordings} recordings: it was cut short", path.display()));
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} recordings checked, {} problems", lines.len(), problems.len());
    Ok(problems.is_empty())
}

/// What is not as it must be: one line each.
pub async fn check(servers: &Servers, keys: &KeyRing, lines: &[Line]) -> anyhow::Result<Vec<String>> {
    let (mut problems, mut stored) = (Vec::new(), Vec::new());
    let mut ids = HashSet::new();
    for line in lines {
        match vouched_for(line, keys) {
            Ok(receipt) if !ids.insert(receipt.recording_id) => {
                problems.push(format!("{}: two recordings have the id {}", line.key, receipt.recording_id));
            }
            Ok(receipt) => stored.push((line, receipt)),
            Err(why) => problems.push(format!("{}: {why}", line.key)),
        }
    }
    let store = servers.store().await;
    let found = stream::iter(&stored).map(|(line, receipt)| object(&*store, line, receipt)).buffer_unordered(AT_ONCE);
    let found: Vec<Option<String>> = found.try_collect().await?;
    problems.extend(found.into_iter().flatten());

    let mut told = told(servers).await?;
    let give_up = Instant::now() + EVENTS;
    let has_event = |told: &HashSet<(String, String)>, receipt: &ReceiptPayload| {
        told.contains(&(receipt.recording_id.to_string(), receipt.version.clone()))
    };
    while stored.iter().any(|(_, receipt)| !has_event(&told, receipt)) && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_secs(1)).await;
        told = self::told(servers).await?;
    }
    let untold = stored.iter().filter(|(_, receipt)| !has_event(&told, receipt));
    problems.extend(untold.map(|(line, _)| format!("{}: no event tells that it is stored", line.key)));
    Ok(problems)
}

/// What a recording's receipt says, if it is one of this recording and its signature is good.
fn vouched_for(line: &Line, keys: &KeyRing) -> Result<ReceiptPayload, String> {
    let Some(envelope) = &line.receipt else {
        let why = line.error.as_deref().unwrap_or("no error");
        let acknowledged = if line.accepted.is_some() { "acknowledged, and " } else { "" };
        return Err(format!("{acknowledged}not stored: {why}"));
    };
    let verified = Receipt::try_from(envelope).and_then(|receipt| keys.verify(&receipt));
    let receipt = verified.map_err(|error| format!("its receipt is not good: {error}"))?;
    let says = (receipt.bureau.as_str(), receipt.size, receipt.blake3.to_hex(), receipt.legal_hold);
    let is = (line.bureau.as_str(), line.size, line.blake3.clone(), line.has_case);
    if says == is { Ok(receipt) } else { Err(format!("its receipt says {says:?}, not {is:?}")) }
}

/// What is wrong with a recording's object.
async fn object(store: &dyn Store, line: &Line, receipt: &ReceiptPayload) -> anyhow::Result<Option<String>> {
    let ReceiptPayload { bureau, recording_id, generation, object_key, version, locked_until, legal_hold, .. } =
        receipt;
    let versions = store.versions(object_key).await?;
    if versions.len() != 1 || versions[0].id != *version {
        return Ok(Some(format!("{}: {object_key} has not the one version {version}: {versions:?}", line.key)));
    }
    let lock = store.lock(object_key, version).await?;
    if lock.until < Some(*locked_until) || (*legal_hold && !lock.hold) {
        let lacks = format!("{object_key} has {lock:?}, not {locked_until} and a hold: {legal_hold}");
        return Ok(Some(format!("{}: {lacks}", line.key)));
    }
    let manifest = object_key::manifest(bureau, *recording_id, *generation);
    if oldest_version(store, &manifest).await?.is_none() {
        return Ok(Some(format!("{}: there is no {manifest}", line.key)));
    }
    let mut hasher = blake3::Hasher::new();
    let mut chunks = store.read(object_key, version, 0).await?;
    while let Some(chunk) = chunks.try_next().await? {
        hasher.update(&chunk);
    }
    let blake3 = hasher.finalize().to_hex();
    let is_whole = blake3.as_str() == line.blake3;
    Ok((!is_whole).then(|| format!("{}: {object_key} has the BLAKE3 {blake3}, not {}", line.key, line.blake3)))
}

/// The recordings, and versions, that events say are stored, by now.
async fn told(servers: &Servers) -> anyhow::Result<HashSet<(String, String)>> {
    let log = KafkaLog::open(&servers.kafka()).await.context("reach Kafka")?;
    let (mut told, mut unreadable) = (HashSet::new(), None);
    read_to_end(&*log, Topic::Events, |entry| {
        let is_stored =
            entry.record.header_value("ce_type").is_some_and(|kind| kind == "io.caselock.recording.stored.v1");
        match entry.record.payload.filter(|_| is_stored).map(RecordingStored::decode) {
            Some(Ok(event)) => drop(told.insert((event.recording_id, event.version))),
            Some(Err(error)) => unreadable = Some(error),
            None => {}
        }
    })
    .await?;
    if let Some(error) = unreadable {
        return Err(error).context("an event");
    }
    Ok(told)
}
