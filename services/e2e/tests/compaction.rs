//! `uploads` after Kafka has really compacted it: the same state as before, races included.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use caselock_domain::{
    digest::{Blake3, SegmentValue},
    fact::{self, Acknowledged, Completed, Fact, FactKey, Opened, PartStored, Subject},
    id::{BureauId, RecordingId},
    metadata::Metadata,
    receipt::Receipt,
    shape::Shape,
    state::RecordingFacts,
    time::Timestamp,
};
use caselock_e2e::{PATIENCE, Stack};
use caselock_log::{Followed, Log, Topic, append_fact};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const RECORDINGS: u32 = 12;
const FACTS: usize = 1500;
/// The least Kafka takes. Only closed segments of the log are compacted.
const LOG_SEGMENT: &str = "1048576";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn opened() -> Fact {
    let metadata: Metadata = serde_json::from_value(serde_json::json!({
        "source": "document", "matter": "permit", "record_form": "document", "unit": "u", "officers": ["o"],
        "document_id": "d", "original_name": "n", "content_type": "a/b"
    }))
    .unwrap();
    Fact::Opened(Box::new(Opened {
        bureau: "demo".parse().unwrap(),
        key: "k".parse().unwrap(),
        metadata,
        shape: Shape { segment_size: 1 << 20, size: None },
        opened_at: at(0),
    }))
}

/// A fact as any of several processes may write it: few keys, so that they are written again and again; few values, so that
/// they race.
fn random_fact(random: &mut StdRng) -> (u32, Subject, Option<Fact>) {
    let small = |random: &mut StdRng, most: u8| random.random_range(0..most);
    let index = random.random_range(0..4);
    let value = SegmentValue([small(random, 2); 32]);
    let nonce = [small(random, 3); 16];
    let id = format!("multipart-{}", small(random, 3));
    let time = at(random.random_range(0..1000));
    let (subject, fact) = match small(random, 16) {
        0 => (Subject::Opened(nonce), opened()),
        1..=3 => {
            let footage_offset = random.random_range(0..1000);
            let fact = Acknowledged { length: 7, footage_offset, root: None, at: None };
            (Subject::Acknowledged(index, value), Fact::Acknowledged(fact))
        }
        4 | 5 => {
            let part = PartStored { length: 7, etag: "e".into(), crc64nvme: 1, multipart_id: id, root: None };
            (Subject::PartStored(index, value), Fact::PartStored(part))
        }
        6 | 7 => (Subject::Claimed(id), Fact::Claimed(time)),
        10 => (Subject::Reset(format!("R{}", small(random, 2))), Fact::Reset(time)),
        11 => (Subject::AbandonRequested, Fact::AbandonRequested(time)),
        12 => (Subject::Abandoned(format!("A{}", small(random, 2))), Fact::Abandoned(time)),
        13 => {
            let receipt = Receipt { payload: b"{}".to_vec(), key_id: "k".into(), signature: vec![1; 64] };
            (Subject::Receipted, Fact::Receipted(Box::new(receipt), time))
        }
        14 => (Subject::Verified, Fact::Verified(true, time)),
        15 => (Subject::Derived, Fact::Derived(None, time)),
        8 => (Subject::Sealed(Blake3([small(random, 2); 32])), Fact::Sealed(28, None)),
        _ => {
            let version = format!("version {}", nonce[0]);
            let completed =
                Completed { version, stored_at: time, lock_until: at(9_000_000), legal_hold: false, crc64nvme: 1 };
            (Subject::Completed(nonce), Fact::Completed(completed))
        }
    };
    let generation = u32::from(small(random, 8) == 0);
    (generation, subject, (small(random, 8) > 0).then_some(fact))
}

/// Reads `uploads` from its beginning to the ends given: the recordings' facts, and how many records there were.
async fn read(log: &dyn Log, ends: &BTreeMap<u32, u64>) -> (HashMap<RecordingId, RecordingFacts>, usize) {
    let mut follower = log.follow(Topic::Uploads, ends.keys().map(|p| (*p, 0)).collect()).await.unwrap();
    let (mut recordings, mut records, mut left) = (HashMap::<_, RecordingFacts>::new(), 0, ends.clone());
    while !left.is_empty() {
        match tokio::time::timeout(PATIENCE, follower.recv()).await.expect("the ends").unwrap().unwrap() {
            Followed::Entry(entry) => {
                let (key, fact) = fact::decode(&entry.record.key, entry.record.payload.as_deref()).unwrap();
                recordings.entry(key.recording).or_default().apply(&key, entry.offset, fact);
                records += 1;
            }
            Followed::End { partition, position } if left.get(&partition).is_some_and(|end| position >= *end) => {
                left.remove(&partition);
            }
            Followed::End { .. } => {}
        }
    }
    recordings.retain(|_, facts| !facts.is_empty());
    (recordings, records)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_the_same_after_compaction() {
    let stack = Stack::prepare_topics(&[
        (Topic::Uploads, "segment.bytes", LOG_SEGMENT),
        (Topic::Uploads, "min.cleanable.dirty.ratio", "0.01"),
        (Topic::Uploads, "delete.retention.ms", "1"),
    ])
    .await;
    let log = stack.log().await;
    let seed = std::env::var("CASELOCK_TEST_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("CASELOCK_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bureau: BureauId = "demo".parse().unwrap();
    let id = |number: u32| RecordingId::derive(&bureau, &format!("k{number}").parse().unwrap());
    for _ in 0..FACTS {
        let recording = id(random.random_range(0..RECORDINGS));
        let (generation, subject, fact) = random_fact(&mut random);
        append_fact(&*log, &FactKey { recording, generation, subject }, fact.as_ref()).await.unwrap();
    }
    let mut ends = BTreeMap::new();
    for partition in 0..log.partitions(Topic::Uploads) {
        ends.insert(partition, log.bounds(Topic::Uploads, partition).await.unwrap().end);
    }
    let (before, all) = read(&*log, &ends).await;
    assert!(all >= FACTS - 100, "compaction came too early to be watched: {all} records of {FACTS}");

    // Filler closes the segments of the log that hold them: recordings of their own, one key each, in every partition.
    let give_up = Instant::now() + PATIENCE;
    let mut filler: Vec<RecordingId> = (RECORDINGS..).map(id).take(40).collect();
    filler.sort();
    let big = Fact::Claimed(at(0));
    let (after, left) = loop {
        for recording in &filler {
            let subject = Subject::Claimed("x".repeat(60_000));
            append_fact(&*log, &FactKey { recording: *recording, generation: 0, subject }, Some(&big)).await.unwrap();
        }
        let (mut after, records) = read(&*log, &ends).await;
        after.retain(|recording, _| !filler.contains(recording));
        assert_eq!(after, before, "seed {seed}");
        // Every key's newest record stays; of the others, nothing.
        let keys: usize = before.values().map(keys).sum();
        if records < keys + 2 * filler.len() + 40 {
            break (after, records);
        }
        assert!(Instant::now() < give_up, "seed {seed}: {records} records are left of {all}, for {keys} keys");
    };
    println!("{left} records are left of {all}");
    assert_eq!(after, before, "seed {seed}");
}

/// How many facts stand.
fn keys(facts: &RecordingFacts) -> usize {
    let now = facts.now().map(|now| (facts.current(), now));
    facts.others().chain(now).map(|(_, facts)| facts.everything().len()).sum()
}
