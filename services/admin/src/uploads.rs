//! Uploads, as the log's facts say them.

use std::collections::BTreeMap;

use anyhow::Context;
use caselock_domain::{
    fact,
    id::{BureauId, RecordingId},
    state::{GenerationFacts, Phase, RecordingFacts},
};
use caselock_log::{Log, Topic, read_to_end};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum Command {
    /// Lists uploads: those that are under way, one on a line.
    List(List),
    /// Says all that the log knows of one recording. What was stored long ago is forgotten there: the registry has it.
    Show {
        /// The recording's id.
        recording: RecordingId,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct List {
    /// Those of one bureau only.
    #[arg(long)]
    bureau: Option<BureauId>,
    /// Those that are done with as well: stored, abandoned, disposed of.
    #[arg(long)]
    all: bool,
    /// As JSON objects, one on a line.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &KafkaConfig, command: &Command) -> anyhow::Result<()> {
    let log = KafkaLog::open(config).await?;
    let (recordings, _) = read(&*log).await?;
    match command {
        Command::List(list) => {
            let wanted = |facts: &RecordingFacts| {
                let is_under_way =
                    matches!(facts.phase(), None | Some(Phase::Open | Phase::Sealed)) || is_finishing(facts);
                (list.all || is_under_way) && list.bureau.as_ref().is_none_or(|bureau| facts.bureau() == Some(bureau))
            };
            for (id, facts) in recordings.iter().filter(|(_, facts)| wanted(facts)) {
                println!("{}", if list.json { brief(*id, facts).to_string() } else { line(*id, facts) });
            }
        }
        Command::Show { recording, json } => {
            let facts = recordings.get(recording).with_context(|| {
                format!("the log knows nothing of {recording}: it was never announced or opened, or was stored and forgotten")
            })?;
            let all = describe(*recording, facts);
            if *json {
                println!("{all}");
            } else {
                println!("{all:#}");
            }
        }
    }
    Ok(())
}

/// Every recording that `uploads` has facts of, and how many facts can't be read, each of which is told.
pub async fn read(log: &dyn Log) -> anyhow::Result<(BTreeMap<RecordingId, RecordingFacts>, u64)> {
    let mut recordings = BTreeMap::<RecordingId, RecordingFacts>::new();
    let mut unreadable = 0;
    read_to_end(log, Topic::Uploads, |entry| match fact::decode(&entry.record.key, entry.record.payload.as_deref()) {
        Ok((key, fact)) => recordings.entry(key.recording).or_default().apply(&key, entry.offset, fact),
        Err(error) => {
            unreadable += 1;
            eprintln!("{} at {}/{}: {error}", Topic::Uploads, entry.partition, entry.offset);
        }
    })
    .await?;
    recordings.retain(|_, facts| !facts.is_empty());
    Ok((recordings, unreadable))
}

/// It has its receipt, and its event and its media job may still be to come.
fn is_finishing(facts: &RecordingFacts) -> bool {
    matches!(facts.phase(), Some(Phase::Stored | Phase::Verified | Phase::Derived))
        && facts.now().is_some_and(|now| !now.finished_work().is_empty())
}

fn state(facts: &RecordingFacts) -> &'static str {
    match facts.phase() {
        _ if is_finishing(facts) => "finishing",
        None => "announced",
        Some(Phase::Open) => "open",
        Some(Phase::Sealed) => "sealed",
        Some(Phase::Stored) => "stored",
        Some(Phase::Verified) => "verified",
        Some(Phase::Derived) => "derived",
        Some(Phase::Abandoned) => "abandoned",
        Some(Phase::Disposed) => "disposed",
    }
}

fn line(id: RecordingId, facts: &RecordingFacts) -> String {
    let bureau = facts.bureau().map_or("-", BureauId::as_str);
    let now = facts.now();
    let held = now.map_or(0, |now| now.held_segments().len());
    let parts = now.map_or(0, |now| now.parts().count());
    let waiting = now.map_or(0, GenerationFacts::backlog);
    let since = facts.opened().map_or_else(|| "-".to_owned(), |opened| opened.opened_at.to_string());
    let reason = facts.reason().map(|reason| format!(", {reason}")).unwrap_or_default();
    format!(
        "{id} {bureau} {} since {since}, generation {}: {held} segments held, {parts} in the store, {waiting} bytes wait{reason}",
        state(facts),
        facts.current()
    )
}

/// What a list says: no names of files, no keys.
fn brief(id: RecordingId, facts: &RecordingFacts) -> Value {
    json!({
        "recording_id": id,
        "bureau": facts.bureau(),
        "state": state(facts),
        "generation": facts.current(),
        "reason": facts.reason(),
        "opened_at": facts.opened().map(|opened| opened.opened_at),
        "segments_held": facts.now().map(|now| now.held_segments().len()),
        "segments_in_store": facts.now().map(|now| now.parts().count()),
        "bytes_waiting": facts.now().map(GenerationFacts::backlog),
    })
}

fn describe(id: RecordingId, facts: &RecordingFacts) -> Value {
    let opened = facts.opened().map(|opened| {
        json!({
            "opened_at": opened.opened_at,
            "idempotency_key": opened.key.as_str(),
            "declared_size": opened.shape.size,
            "segment_size": opened.shape.segment_size,
            "case_number": opened.metadata.case_number,
        })
    });
    let now = facts.now().map(|now| {
        json!({
            "segments_held": now.held_segments().len(),
            "segments_in_store": now.parts().count(),
            "bytes_waiting": now.backlog(),
            "oldest_waiting_since": now.oldest_unstored(),
            "multipart_id": now.claim().map(|(id, _)| id),
            "sealed": now.seal().map(|(digest, size)| json!({ "blake3": digest.to_hex(), "size": size })),
            "sealed_at": now.sealed_at(),
            "abandon_requested_at": now.abandon_requested(),
            "version": now.completion().map(|completed| completed.version.clone()),
            "receipt": now.receipt().and_then(|receipt| receipt.payload().ok()),
            "is_conflicting": now.is_conflicting(),
        })
    });
    json!({
        "recording_id": id,
        "bureau": facts.bureau(),
        "state": state(facts),
        "generation": facts.current(),
        "reason": facts.reason(),
        "announced_at": facts.announced().map(|announced| announced.announced_at),
        "opening": opened,
        "now": now,
    })
}
