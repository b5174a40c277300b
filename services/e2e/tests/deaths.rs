//! The archiver dies between any two of its steps: the same object, the same receipt.
#![allow(clippy::unwrap_used)]

use caselock_domain::{id::RecordingId, object_key, state::Phase};
use caselock_e2e::{Bench, Death, Faults, Kind, Lie, id, on_both_stacks};
use caselock_store::oldest_version;

const SEGMENT: u64 = 8 << 20;

/// Kills an archiver at its n-th change of log or store, before it takes effect or after, and lets another one go on, with
/// nothing left in `footage` once every part is stored. Whether it died.
async fn survives_death_at(bench: &Bench, size: u64, change: i64, death: Death) -> bool {
    let key = format!("{size}-{death:?}-{change}");
    let id = RecordingId::derive(&"demo".parse().unwrap(), &key.parse().unwrap());
    let path = bench.file(size);
    let faults = Faults::at(change, death);
    let first = bench.archiver(Some(&faults));
    let upload = bench.upload(&bench.client, &path, &key);
    tokio::pin!(upload);
    let mut uploaded = None;
    let died = tokio::select! {
        () = faults.died() => true,
        done = &mut upload => {
            uploaded = Some(done.unwrap());
            // What follows the receipt: the event, the job, the tombstones, the deletion from the log.
            tokio::select! {
                () = faults.died() => true,
                () = tokio::time::sleep(std::time::Duration::from_secs(10)) => false,
            }
        }
    };
    first.kill();
    if bench.facts(id).await.now().is_some_and(|now| now.is_stored_up_to(2) || now.is_complete()) {
        bench.lose_all_footage().await;
    }
    let _second = bench.archiver(None);
    let uploaded = match uploaded {
        Some(uploaded) => uploaded,
        None => upload.await.unwrap(),
    };
    assert_eq!(uploaded.payload.generation, 0, "change {change}: a death makes nobody send again");
    bench.check(&path, &uploaded).await;
    died
}

/// Dies at every change from this one on; the one that never came.
async fn survives_death_from(bench: &Bench, size: u64, mut change: i64, death: Death) -> i64 {
    while survives_death_at(bench, size, change, death).await {
        change += 1;
    }
    change
}

async fn survives_death_at_every_change(bench: &Bench, death: Death) {
    for (size, expected) in [(SEGMENT + 17, 15), (17, 9)] {
        let change = survives_death_from(bench, size, 0, death).await;
        assert!(change > expected, "only {change} changes were seen with {size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_every_change() {
    survives_death_at_every_change(&Bench::embedded().await, Death::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change() {
    survives_death_at_every_change(&Bench::embedded().await, Death::After).await;
}

/// On a store that ignores the date an object is created with: the lock's date is a change of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change_where_dates_are_set_afterwards() {
    survives_death_at_every_change(&Bench::embedded_lying(Lie::DatesAtCreation).await, Death::After).await;
}

/// A recording of one segment is stored by a single call: every change, on the real Kafka and a real S3 server.
async fn a_single_call_survives_death_at_every_change(death: Death) {
    let change = survives_death_from(&Bench::distributed().await, 17, 0, death).await;
    assert!(change > 9, "only {change} changes were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_every_change_about_a_single_call_on_kafka_and_s3() {
    a_single_call_survives_death_at_every_change(Death::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change_about_a_single_call_on_kafka_and_s3() {
    a_single_call_survives_death_at_every_change(Death::After).await;
}

/// The end order on the real Kafka and a real S3 server: every change from the last part's fact on.
async fn survives_death_at_every_change_of_the_end(death: Death) {
    let change = survives_death_from(&Bench::distributed().await, SEGMENT + 17, 5, death).await;
    assert!(change > 12, "only {change} changes were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_every_change_of_the_end_on_kafka_and_s3() {
    survives_death_at_every_change_of_the_end(Death::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change_of_the_end_on_kafka_and_s3() {
    survives_death_at_every_change_of_the_end(Death::After).await;
}

on_both_stacks!(a_receipt_outlives_the_key_it_was_signed_with);

/// The key is changed between the manifest and the receipt's fact: the receipt is the one that stands in the manifest, and the
/// old public key proves it.
async fn a_receipt_outlives_the_key_it_was_signed_with(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    let key = bench.dir.path().join("new-key.pem");
    let made =
        std::process::Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status();
    assert!(made.unwrap().success());
    let uploaded = bench
        .stored_in_the_end(&path, async {
            bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
            // One segment: the object, the fact of it, hold, manifest.
            let faults = Faults::at(3, Death::After);
            let first = bench.archiver(Some(&faults));
            faults.died().await;
            first.kill();
            let manifest = object_key::manifest(&"demo".parse().unwrap(), id(), 0);
            assert!(oldest_version(&*bench.store, &manifest).await.unwrap().is_some());
            assert!(bench.facts(id()).await.now().unwrap().receipt().is_none());
            std::mem::forget(bench.archiver_with(bench.log.clone(), bench.store.clone(), key));
        })
        .await;
    // Checked against the old key alone.
    bench.keys.verify(&uploaded.receipt).unwrap();
}
