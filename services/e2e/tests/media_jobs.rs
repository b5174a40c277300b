//! Media's jobs: digests told, damage told, workers that hang or die, and nothing made twice.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use caselock_client::Uploaded;
use caselock_domain::object_key;
use caselock_e2e::{
    Bench, Footage, KEY, Kind, Lie, PATIENCE, Unfaithful, binary, header, id, kept_contract, on_both_stacks,
};
use caselock_log::{Record, Topic};
use caselock_media::{MediaConfig, MediaContext};
use caselock_proto::events::v1::{RecordingDerivationFailed, RecordingVerificationFailed, RecordingVerified};
use caselock_runtime::{clock::system_clock, health::Health};
use caselock_store::Store;
use prost::Message;
use tokio_util::sync::CancellationToken;

on_both_stacks!(
    digests_are_those_of_stock_tools_and_a_repeated_job_makes_nothing_new,
    other_bytes_than_were_stored_are_an_alarm_and_never_tried_away,
    an_original_that_has_gone_is_an_alarm,
    nothing_is_derived_from_an_original_that_goes_after_it_was_verified,
    a_worker_that_hangs_dies_or_talks_nonsense_costs_one_job,
);

/// A bench with a video that is stored, and whose job waits.
async fn stored(kind: Kind) -> (Bench, PathBuf, Uploaded) {
    let bench = Bench::of(kind).await;
    let footage = Footage::new().ffmpeg(
        "video.mp4",
        &["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2", "-c:v", "libx264", "-preset", "ultrafast"],
    );
    let path = bench.dir.path().join("video.mp4");
    std::fs::copy(footage.path().join("video.mp4"), &path).unwrap();
    let _archiver = bench.archiver(None);
    let uploaded = bench.upload_as(&bench.client, &path, KEY, "video/mp4").await.unwrap();
    bench.wait_for("the end", id(), |facts| facts.now().unwrap().finished_work().is_empty()).await;
    (bench, path, uploaded)
}

/// Runs media on a store, with a worker, until something is so.
async fn run<T>(
    bench: &Bench,
    store: Arc<dyn Store>,
    worker: PathBuf,
    what: &str,
    until: impl Future<Output = T>,
) -> T {
    let stop = CancellationToken::new();
    let config = MediaConfig {
        worker,
        scratch: bench.dir.path().to_owned(),
        worker_wall_seconds: 6,
        worker_seconds_per_mib: 0,
        ..MediaConfig::default()
    };
    let context = MediaContext {
        log: bench.log.clone(),
        store,
        clock: system_clock(),
        health: Health::default(),
        stop: stop.clone(),
    };
    let media = caselock_media::start(config, context).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, until).await.expect(what);
    stop.cancel();
    media.stopped().await.unwrap();
    done
}

/// Runs media until it has told of the job in a record of this type, and the job is deleted from the log.
async fn run_until(bench: &Bench, store: Arc<dyn Store>, worker: PathBuf, kind: &str) -> Record {
    let told = async {
        loop {
            if let Some(record) = event(bench, kind).await
                && bench.records(Topic::MediaJobs, id()).await.is_empty()
            {
                return record;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    run(bench, store, worker, kind, told).await
}

async fn event(bench: &Bench, kind: &str) -> Option<Record> {
    let events = bench.records(Topic::Events, id()).await.into_iter().map(|(_, record)| record);
    let kind = format!("io.caselock.recording.{kind}.v1");
    events.into_iter().find(|record| record.header_value("ce_type").is_some_and(|value| *value == kind.as_bytes()))
}

/// A worker of our own. Put in place by another process: one that a test beside this one starts would inherit a
/// descriptor open for writing, and until it has let go of it the kernel starts no such file ("Text file busy").
fn script(bench: &Bench, body: &str) -> PathBuf {
    let [text, path] = ["worker.txt", "worker.sh"].map(|name| bench.dir.path().join(name));
    std::fs::write(&text, format!("#!/bin/sh\n[ \"$1\" = --check-sandbox ] && exit 0\n{body}\n")).unwrap();
    assert!(Command::new("install").args(["-m", "755"]).args([&text, &path]).status().unwrap().success());
    path
}

/// What a stock tool says of a file.
fn digest(tool: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(tool).args(arguments).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().find(|word| word.len() == 64).unwrap().to_owned()
}

async fn digests_are_those_of_stock_tools_and_a_repeated_job_makes_nothing_new(kind: Kind) {
    let (bench, path, _) = stored(kind).await;
    let worker = binary("caselock-media-worker");
    run_until(&bench, bench.store.clone(), worker.clone(), "derived").await;
    let verified = event(&bench, "verified").await.unwrap();
    let verified = RecordingVerified::decode(verified.payload.unwrap()).unwrap();
    assert_eq!(hex(&verified.sha256), digest("sha256sum", &[], &path));
    assert_eq!(hex(&verified.sm3), digest("openssl", &["dgst", "-sm3", "-r"], &path));

    // The job comes again, as after a crash: the same objects, the same event.
    let keys = bench.store.keys(&object_key::recording(&"demo".parse().unwrap(), id()), None).await.unwrap().keys;
    assert_eq!(keys.len(), 7, "{keys:?}");
    let job = caselock_proto::log::v1::MediaJob {
        recording_id: id().to_string(),
        generation: 0,
        bureau: "demo".into(),
        version: bench.store.versions(&object_key::original(&"demo".parse().unwrap(), id(), 0)).await.unwrap()[0]
            .id
            .clone(),
    };
    let partition = caselock_domain::partition::of(id(), bench.log.partitions(Topic::MediaJobs));
    let record = Record::new(id().to_string(), job.encode_to_vec()).header("cl-schema", "1");
    bench.log.append(Topic::MediaJobs, partition, record).await.unwrap();
    let before = bench.records(Topic::Events, id()).await.len();
    let told_again = async {
        while bench.records(Topic::Events, id()).await.len() < before + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    run(&bench, bench.store.clone(), worker, "the job, again", told_again).await;
    assert_eq!(
        bench.store.keys(&object_key::recording(&"demo".parse().unwrap(), id()), None).await.unwrap().keys,
        keys
    );
    for key in &keys {
        assert_eq!(bench.store.versions(key).await.unwrap().len(), 1, "{key}");
    }
    let events: Vec<_> = bench.records(Topic::Events, id()).await.into_iter().map(|(_, record)| record).collect();
    assert!(events[before..].iter().all(|record| events[..before].contains(record)), "copies of an event differ");
}

/// The alarm that media raises on a store that lies so.
async fn alarm(bench: &Bench, uploaded: &Uploaded, lie: Lie) -> RecordingVerificationFailed {
    let store = Unfaithful::on(bench.store.clone(), lie);
    let failed = run_until(bench, store, binary("caselock-media-worker"), "verification-failed").await;
    let failed = RecordingVerificationFailed::decode(failed.payload.unwrap()).unwrap();
    assert_eq!(&failed.expected_blake3[..], &uploaded.payload.blake3.0[..]);
    let kept = kept_contract(&*bench.log, &[]).await;
    assert_eq!(kept.told("recording.verification-failed"), 1, "{kept:?}");
    assert!(event(bench, "verified").await.is_none() && event(bench, "derived").await.is_none());
    failed
}

async fn other_bytes_than_were_stored_are_an_alarm_and_never_tried_away(kind: Kind) {
    let (bench, _, uploaded) = stored(kind).await;
    let failed = alarm(&bench, &uploaded, Lie::Bytes).await;
    assert_ne!(failed.actual_blake3, failed.expected_blake3);
    let facts = bench.facts(id()).await;
    assert!(facts.phase() < Some(caselock_domain::state::Phase::Verified), "{:?}", facts.phase());
}

async fn an_original_that_has_gone_is_an_alarm(kind: Kind) {
    let (bench, _, uploaded) = stored(kind).await;
    let failed = alarm(&bench, &uploaded, Lie::Originals).await;
    assert_eq!(&failed.actual_blake3[..], blake3::hash(b"").as_bytes());
}

async fn nothing_is_derived_from_an_original_that_goes_after_it_was_verified(kind: Kind) {
    let (bench, _, _) = stored(kind).await;
    // Media dies while its worker works.
    let verified = async {
        while event(&bench, "verified").await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    run(&bench, bench.store.clone(), script(&bench, "exec sleep 60"), "verified", verified).await;
    let store = Unfaithful::on(bench.store.clone(), Lie::Originals);
    let letter = async {
        loop {
            if let Some((_, record)) = bench.records(Topic::DeadLetters, id()).await.pop() {
                return record;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let letter = run(&bench, store, binary("caselock-media-worker"), "the dead letter", letter).await;
    assert_eq!(header(&letter, "cl-reason"), "ORIGINAL_CHANGED");
    assert!(event(&bench, "derived").await.is_none() && event(&bench, "derivation-failed").await.is_none());
}

async fn a_worker_that_hangs_dies_or_talks_nonsense_costs_one_job(kind: Kind) {
    for (body, reason) in [
        ("exec sleep 60", "WORKER_TIMEOUT"),
        ("kill -SEGV $$", "WORKER_CRASHED"),
        ("kill -KILL $$", "WORKER_KILLED"),
        ("kill -SYS $$", "WORKER_ATTACKED"),
        ("echo nonsense", "WORKER_CRASHED"),
    ] {
        let (bench, _, uploaded) = stored(kind).await;
        let worker = script(&bench, body);
        let failed = run_until(&bench, bench.store.clone(), worker, "derivation-failed").await;
        let failed = RecordingDerivationFailed::decode(failed.payload.unwrap()).unwrap();
        assert_eq!(failed.reason, reason, "{body}");
        let mut letters = Vec::new();
        for partition in 0..bench.log.partitions(Topic::DeadLetters) {
            letters.extend(bench.partition(Topic::DeadLetters, partition).await);
        }
        assert_eq!(letters.len(), 1, "{body}");
        assert_eq!(letters[0].1.header_value("cl-reason").unwrap(), reason);
        let versions = bench.store.versions(&uploaded.payload.object_key).await.unwrap();
        assert_eq!(versions[0].id, uploaded.payload.version, "the original stays");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
