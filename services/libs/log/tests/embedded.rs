//! The embedded log: the contract, and what only a file has.
#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use caselock_log::{Log, LogError, Record, Topic, embedded::EmbeddedLog};
use tempfile::TempDir;

async fn fresh() -> (Arc<dyn Log>, TempDir) {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
    (log, dir)
}

caselock_log::contract_tests!(fresh());

#[tokio::test]
async fn what_was_appended_survives_closing_and_tombstones_go() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    {
        let log = EmbeddedLog::open(&path).unwrap();
        log.append(Topic::Footage, 0, Record::new("k", vec![1u8; 3 << 20])).await.unwrap();
        log.append(Topic::Uploads, 0, Record::new("kept", "v")).await.unwrap();
        log.append(Topic::Uploads, 0, Record::new("gone", "v")).await.unwrap();
        log.append(Topic::Uploads, 0, Record::tombstone("gone")).await.unwrap();
    }
    let log = reopen(&path).await;
    assert_eq!(log.bounds(Topic::Footage, 0).await.unwrap(), 0..1);
    assert_eq!(log.bounds(Topic::Uploads, 0).await.unwrap(), 0..3);
    let mut follower = log.follow(Topic::Uploads, vec![(0, 0)]).await.unwrap();
    let first = follower.recv().await.unwrap().unwrap();
    let expected = caselock_log::Entry { partition: 0, offset: 0, record: Record::new("kept", "v") };
    assert_eq!(first, caselock_log::Followed::Entry(expected));
    let end = follower.recv().await.unwrap().unwrap();
    assert_eq!(end, caselock_log::Followed::End { partition: 0, position: 3 });
}

/// More than is kept in memory: what is older comes from the file, the rest as it was appended, and together all of it.
#[tokio::test(flavor = "multi_thread")]
async fn footage_is_the_same_from_memory_and_from_the_file() {
    let (log, dir) = fresh().await;
    let payload = |n: u8| vec![n; 8 << 20];
    for n in 0..12 {
        let record = Record::new("k", payload(n)).header("cl-n", vec![n]);
        log.append(Topic::Footage, u32::from(n % 2), record).await.unwrap();
    }
    log.delete_before(Topic::Footage, 1, 5).await.unwrap();
    assert_eq!(read_all(&log).await, [vec![0, 2, 4, 6, 8, 10], vec![11]]);
    log.append(Topic::Footage, 1, Record::new("k", payload(13)).header("cl-n", vec![13])).await.unwrap();
    assert_eq!(read_all(&log).await, [vec![0, 2, 4, 6, 8, 10], vec![11, 13]]);
    drop(log);
    let log: Arc<dyn Log> = reopen(&dir.path().join("log")).await;
    assert_eq!(read_all(&log).await, [vec![0, 2, 4, 6, 8, 10], vec![11, 13]]);
}

/// What each of two partitions holds, by the byte that its records are full of, which their headers name as well.
async fn read_all(log: &Arc<dyn Log>) -> [Vec<u8>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for (partition, found) in (0..).zip(&mut found) {
        let end = log.end(Topic::Footage, partition).await.unwrap();
        let mut follower = log.follow(Topic::Footage, vec![(partition, 0)]).await.unwrap();
        loop {
            match follower.recv().await.unwrap().unwrap() {
                caselock_log::Followed::Entry(entry) => {
                    let payload = entry.record.payload.clone().unwrap();
                    assert!(payload.len() == 8 << 20 && payload.iter().all(|byte| *byte == payload[0]));
                    assert_eq!(entry.record.header_value("cl-n").unwrap()[..], payload[..1]);
                    found.push(payload[0]);
                }
                caselock_log::Followed::End { position, .. } => {
                    assert_eq!(position, end);
                    break;
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let _first = EmbeddedLog::open(&path).unwrap();
    assert!(matches!(EmbeddedLog::open(&path), Err(LogError::Unavailable(_))));
}

/// The writer's thread lets go of the file a moment after the last handle is dropped.
async fn reopen(path: &std::path::Path) -> Arc<EmbeddedLog> {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match EmbeddedLog::open(path) {
            Ok(log) => return log,
            Err(LogError::Unavailable(_)) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
}
