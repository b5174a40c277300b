//! The log held against the store: what facts and events say is stored is there, locked, and vouched for. The registry is held against the
//! store by `caselock-registry audit`.

use std::collections::BTreeSet;

use anyhow::Context;
use caselock_domain::{id::RecordingId, manifest, object_key, receipt::Receipt, state::RecordingFacts};
use caselock_log::{Topic, read_to_end};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use caselock_store::{ErrorKind, Store, read_document};
use caselock_store_s3::{S3Config, S3Store};
use futures::{StreamExt, stream};

use crate::uploads;

/// Recordings looked at side by side.
const AT_ONCE: usize = 16;

/// Whether nothing is wrong.
pub async fn run(kafka: &KafkaConfig, s3: &S3Config) -> anyhow::Result<bool> {
    let log = KafkaLog::open(kafka).await?;
    let store = S3Store::open(s3).await;
    let (recordings, unreadable) = uploads::read(&*log).await.context("read the facts")?;
    let mut told = BTreeSet::new();
    read_to_end(&*log, Topic::Events, |event| {
        let kind = event.record.header_value("ce_type");
        if kind.is_some_and(|kind| kind == "io.caselock.recording.stored.v1") {
            told.extend(String::from_utf8_lossy(&event.record.key).parse::<RecordingId>().ok());
        }
    })
    .await
    .context("read the events")?;
    let stored = recordings.iter().filter(|(_, facts)| facts.now().is_some_and(|now| now.receipt().is_some()));
    let looked = stream::iter(stored).map(async |(id, facts)| {
        let mut problems = problems(&*store, facts).await.with_context(|| format!("ask the store for {id}"))?;
        // While the completion's fact is there, the event is still to be told.
        if !told.contains(id) && facts.now().is_some_and(|now| now.completion().is_none()) {
            problems.push("no event says that it is stored".into());
        }
        anyhow::Ok((*id, problems))
    });
    let mut looked = std::pin::pin!(looked.buffer_unordered(AT_ONCE));
    let (mut compared, mut wrong) = (0, 0);
    while let Some(one) = looked.next().await {
        let (id, problems) = one?;
        compared += 1;
        wrong += u64::from(!problems.is_empty());
        for problem in problems {
            println!("{id}: {problem}");
        }
    }
    println!(
        "{compared} recordings that the log has receipts of compared with the store: {wrong} with something wrong"
    );
    if unreadable > 0 {
        println!("{unreadable} facts can't be read: what they are about was not compared");
    }
    Ok(wrong == 0 && unreadable == 0)
}

/// What is not in the store as the facts say.
async fn problems(store: &dyn Store, facts: &RecordingFacts) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let Some(receipt) = facts.now().and_then(|now| now.receipt()) else { return Ok(problems) };
    let payload = receipt.payload()?;
    match store.lock(&payload.object_key, &payload.version).await {
        Ok(lock) if lock.until < Some(payload.locked_until) => {
            problems.push(format!("locked until {:?}, its receipt says {}", lock.until, payload.locked_until));
        }
        Ok(_) => {}
        Err(error) if error.kind == ErrorKind::NotFound => {
            problems.push(format!("{} is not there in version {}", payload.object_key, payload.version));
        }
        Err(error) => return Err(error.into()),
    }
    let key = object_key::manifest(&payload.bureau, payload.recording_id, payload.generation);
    match read_document(store, &key, manifest::LIMIT).await? {
        None => problems.push(format!("{key} is not there")),
        Some((_, bytes)) => match serde_json::from_slice::<manifest::Manifest>(&bytes) {
            Ok(there) if Receipt::try_from(&there.receipt).ok().as_ref() == Some(receipt) => {}
            Ok(_) => problems.push(format!("{key} has another receipt than the log")),
            Err(error) => problems.push(format!("{key} can't be read: {error}")),
        },
    }
    Ok(problems)
}
