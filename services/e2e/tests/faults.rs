//! Death between any two steps, and loss behind the services' backs: the same object, the same receipt, or "send again" by
//! itself.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use caselock_client::Uploaded;
use caselock_domain::{
    digest::SegmentValue,
    fact::{Acknowledged, Fact, FactKey, Subject},
    footage::SegmentRef,
    id::RecordingId,
    manifest::Manifest,
    object_key,
    receipt::Receipt,
    state::Phase,
};
use caselock_e2e::{Bench, Death, Faults, Lie, Unfaithful, random_file};
use caselock_log::{Record, Topic};
use caselock_store::{Crc64Nvme, ErrorKind, NewObject, Part, oldest_version, read_document};

/// Makes a test of each function for the embedded ports, and for the real Kafka and S3 server.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(caselock_e2e::Bench::embedded().await).await;
            })+
        }
        mod distributed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(caselock_e2e::Bench::distributed().await).await;
            })+
        }
    };
}

on_both!(
    a_multipart_upload_aborted_before_the_seal_is_sent_again,
    a_multipart_upload_aborted_after_the_seal_is_sent_again,
    a_log_that_lost_footage_asks_for_it_again,
    an_abandoned_upload_is_opened_again,
    what_cannot_be_used_becomes_a_dead_letter,
    a_losing_claim_is_dropped,
);

const KEY: &str = "k";
const SEGMENT: u64 = 8 << 20;

fn file(bench: &Bench, length: u64) -> PathBuf {
    let path = bench.dir.path().join("footage.bin");
    random_file(&path, length);
    path
}

fn id() -> RecordingId {
    RecordingId::derive(&"demo".parse().unwrap(), &KEY.parse().unwrap())
}

fn header(record: &caselock_log::Record, name: &str) -> String {
    String::from_utf8(record.header_value(name).unwrap().to_vec()).unwrap()
}

/// One object, locked and held; one receipt, in the client's hands, the manifest and the facts alike; its event, whose
/// copies are the same.
async fn check(bench: &Bench, path: &std::path::Path, uploaded: &Uploaded) {
    let payload = bench.keys.verify(&uploaded.receipt).unwrap();
    let whole = *blake3::hash(&std::fs::read(path).unwrap()).as_bytes();
    assert_eq!(payload.blake3.0, whole);
    let versions = bench.store.versions(&payload.object_key).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].id, payload.version);
    let lock = bench.store.lock(&payload.object_key, &payload.version).await.unwrap();
    assert_eq!((lock.until, lock.hold), (Some(payload.locked_until), true));
    let deleted = bench.store.delete_version(&payload.object_key, &payload.version, true).await;
    assert_eq!(deleted.unwrap_err().kind, ErrorKind::Locked);

    let key = object_key::manifest(&payload.bureau, payload.recording_id, payload.generation);
    let (version, manifest) = read_document(&*bench.store, &key, 1 << 20).await.unwrap().unwrap();
    assert_eq!(bench.store.lock(&key, &version).await.unwrap(), lock);
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(Receipt::try_from(&manifest.receipt).unwrap(), uploaded.receipt);

    // The end is finished: told, and tidied.
    bench
        .wait_for("the end", payload.recording_id, |facts| {
            facts.phase() == Some(Phase::Stored) && facts.now().unwrap().finished_work().is_empty()
        })
        .await;
    let facts = bench.facts(payload.recording_id).await;
    assert_eq!(facts.now().unwrap().receipt(), Some(&uploaded.receipt));
    let own = async |topic| {
        let records = bench.records(topic, payload.recording_id).await.into_iter().map(|(_, record)| record);
        records.filter(|record| record.key == payload.recording_id.to_string()).collect::<Vec<_>>()
    };
    let events = own(Topic::Events).await;
    let stored: Vec<_> =
        events.iter().filter(|record| header(record, "ce_type") == "io.caselock.recording.stored.v1").collect();
    assert!(!stored.is_empty());
    assert!(stored.iter().all(|record| *record == stored[0]), "copies of the event differ");
    assert!(!own(Topic::MediaJobs).await.is_empty());
}

/// Kills an archiver at its n-th change of log or store, before it takes effect or after, and lets another one go on, with
/// nothing left in `footage` once every part is stored. Whether it died.
async fn survives_death_at(bench: &Bench, change: i64, death: Death) -> bool {
    let key = format!("{death:?}-{change}");
    let id = RecordingId::derive(&"demo".parse().unwrap(), &key.parse().unwrap());
    let path = file(bench, SEGMENT + 17);
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
                () = tokio::time::sleep(std::time::Duration::from_secs(3)) => false,
            }
        }
    };
    first.kill();
    if bench.facts(id).await.now().is_some_and(|now| now.is_stored_up_to(2) || now.is_complete()) {
        lose_all_footage(bench).await;
    }
    let _second = bench.archiver(None);
    let uploaded = match uploaded {
        Some(uploaded) => uploaded,
        None => upload.await.unwrap(),
    };
    assert_eq!(uploaded.payload.generation, 0, "change {change}: a death makes nobody send again");
    check(bench, &path, &uploaded).await;
    died
}

async fn survives_death_at_every_change(death: Death) {
    let bench = Bench::embedded().await;
    let last = async {
        let mut change = 0;
        while survives_death_at(&bench, change, death).await {
            change += 1;
        }
        change
    };
    let last = last.await;
    assert!(last > 15, "only {last} changes were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_every_change() {
    survives_death_at_every_change(Death::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change() {
    survives_death_at_every_change(Death::After).await;
}

/// The end order on the real Kafka and a real S3 server: every change from the last part's fact on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_every_change_of_the_end_on_kafka_and_s3() {
    let bench = Bench::distributed().await;
    let mut change = 5;
    while survives_death_at(&bench, change, Death::After).await {
        change += 1;
    }
    assert!(change > 12, "only {change} changes were seen");
}

/// Uploads while `meanwhile` does its worst.
async fn stored_in_the_end(bench: &Bench, path: &std::path::Path, meanwhile: impl Future<Output = ()>) -> Uploaded {
    let (uploaded, ()) = tokio::join!(bench.upload(&bench.client, path, KEY), meanwhile);
    let uploaded = uploaded.unwrap();
    check(bench, path, &uploaded).await;
    uploaded
}

async fn a_multipart_upload_aborted_before_the_seal_is_sent_again(bench: Bench) {
    let path = file(&bench, 3 * SEGMENT);
    // The archiver dies after its first part; the store forgets the upload; then it goes on.
    let faults = Faults::at(4, Death::After);
    let first = bench.archiver(Some(&faults));
    let meanwhile = async {
        faults.died().await;
        first.kill();
        let facts = bench.facts(id()).await;
        let (claim, _) = facts.now().unwrap().claim().unwrap();
        bench.store.abort(&object_key::original(&"demo".parse().unwrap(), id(), 0), claim).await.unwrap();
        std::mem::forget(bench.archiver(None));
    };
    let uploaded = stored_in_the_end(&bench, &path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
    let events = bench.records(Topic::Events, id()).await;
    let types: Vec<_> = events.iter().map(|(_, record)| header(record, "ce_type")).collect();
    assert!(types.contains(&"io.caselock.recording.resend-needed.v1".to_owned()), "{types:?}");
}

async fn a_multipart_upload_aborted_after_the_seal_is_sent_again(bench: Bench) {
    let path = file(&bench, 2 * SEGMENT);
    let meanwhile = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        // Two parts and their facts, then death before the completion.
        let faults = Faults::at(6, Death::Before);
        let first = bench.archiver(Some(&faults));
        faults.died().await;
        first.kill();
        let facts = bench.facts(id()).await;
        assert!(facts.now().unwrap().is_stored_up_to(2));
        let (claim, _) = facts.now().unwrap().claim().unwrap();
        bench.store.abort(&object_key::original(&"demo".parse().unwrap(), id(), 0), claim).await.unwrap();
        std::mem::forget(bench.archiver(None));
    };
    let uploaded = stored_in_the_end(&bench, &path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
    let old = object_key::original(&"demo".parse().unwrap(), id(), 0);
    assert_eq!(oldest_version(&*bench.store, &old).await.unwrap(), None);
}

async fn a_log_that_lost_footage_asks_for_it_again(bench: Bench) {
    let path = file(&bench, 2 * SEGMENT + 1);
    let meanwhile = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        lose_all_footage(&bench).await;
        std::mem::forget(bench.archiver(None));
    };
    let uploaded = stored_in_the_end(&bench, &path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_whose_facts_are_forgotten_is_found_again_in_the_store() {
    let bench = Bench::embedded().await;
    let path = file(&bench, SEGMENT + 5);
    let _archiver = bench.archiver(None);
    let first = stored_in_the_end(&bench, &path, async {}).await;
    found_again_after_all_is_forgotten(&bench, &path, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_generation_is_found_again_as_well() {
    let bench = Bench::embedded().await;
    let path = file(&bench, SEGMENT + 5);
    let first = stored_in_the_end(&bench, &path, async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        lose_all_footage(&bench).await;
        std::mem::forget(bench.archiver(None));
    })
    .await;
    assert_eq!(first.payload.generation, 1);
    found_again_after_all_is_forgotten(&bench, &path, &first).await;
}

async fn found_again_after_all_is_forgotten(bench: &Bench, path: &std::path::Path, first: &Uploaded) {
    // As after thirty days: nothing of it is left in the log.
    let facts = bench.facts(id()).await;
    let now = (facts.current(), facts.now().unwrap());
    for (generation, facts) in facts.others().chain([now]) {
        for subject in facts.everything() {
            let key = FactKey { recording: id(), generation, subject };
            caselock_log::append_fact(&*bench.log, &key, None).await.unwrap();
        }
    }
    assert!(bench.facts(id()).await.is_empty());
    let again = bench.upload(&bench.client, path, KEY).await.unwrap();
    assert_eq!(again.receipt, first.receipt);
    let keys = bench.store.keys(&object_key::recording(&first.payload.bureau, id()), None).await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.ends_with("/original")).count(), 1, "{keys:?}");
    bench.wait_for("tidiness", id(), |facts| facts.now().is_some_and(|now| now.finished_work().is_empty())).await;
}

async fn lose_all_footage(bench: &Bench) {
    for partition in 0..bench.log.partitions(Topic::Footage) {
        let end = bench.log.bounds(Topic::Footage, partition).await.unwrap().end;
        bench.log.delete_before(Topic::Footage, partition, end).await.unwrap();
    }
}

/// Two parts stored, and then death at the completion, before it takes effect or after; and then another value for the first
/// segment turns up in the log, as from a gateway that was slow.
async fn dies_at_the_completion_of_what_conflicts(bench: &Bench, death: Death) {
    bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
    let faults = Faults::at(6, death);
    let first = bench.archiver(Some(&faults));
    faults.died().await;
    first.kill();
    let other = Acknowledged { length: 8 << 20, footage_offset: 0, root: None };
    let subject = Subject::Acknowledged(0, SegmentValue([9; 32]));
    let key = FactKey { recording: id(), generation: 0, subject };
    caselock_log::append_fact(&*bench.log, &key, Some(&Fact::Acknowledged(other))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_comes_after_send_again_makes_no_object() {
    let bench = Bench::embedded().await;
    let path = file(&bench, 2 * SEGMENT);
    let upload = bench.upload(&bench.client, &path, KEY);
    let dies = async {
        dies_at_the_completion_of_what_conflicts(&bench, Death::Before).await;
        let facts = bench.facts(id()).await;
        std::mem::forget(bench.archiver(None));
        bench.wait_for("the next generation", id(), |facts| facts.current() == 1).await;
        facts
    };
    let (ended, facts) = tokio::join!(upload, dies);
    assert!(ended.unwrap_err().to_string().contains("another file goes by this key"));
    // What an archiver would send that was paused before its completion, and goes on now.
    let (claim, _) = facts.now().unwrap().claim().unwrap();
    let parts = facts.now().unwrap().parts().map(|(index, _, part)| Part {
        number: index + 1,
        etag: part.etag.clone(),
        crc: Crc64Nvme(part.crc64nvme),
        length: part.length,
    });
    let key = object_key::original(&"demo".parse().unwrap(), id(), 0);
    let completed = bench.store.complete(&key, claim, &parts.collect::<Vec<_>>()).await;
    assert_eq!(completed.unwrap_err().kind, ErrorKind::MultipartGone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_completed_is_not_sent_again() {
    let bench = Bench::embedded().await;
    let path = file(&bench, 2 * SEGMENT);
    let uploaded = stored_in_the_end(&bench, &path, async {
        dies_at_the_completion_of_what_conflicts(&bench, Death::After).await;
        std::mem::forget(bench.archiver(None));
    })
    .await;
    assert_eq!(uploaded.payload.generation, 0);
}

/// The key is changed between the manifest and the receipt's fact: the receipt is the one that stands in the manifest, and the
/// old public key proves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_outlives_the_key_it_was_signed_with() {
    let bench = Bench::embedded().await;
    let path = file(&bench, 1000);
    let key = bench.dir.path().join("new-key.pem");
    let made =
        std::process::Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status();
    assert!(made.unwrap().success());
    let uploaded = stored_in_the_end(&bench, &path, async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        // One part: begin, claim, part, its fact, completion, its fact, hold, manifest.
        let faults = Faults::at(7, Death::After);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_keep_a_hold_gives_no_receipt() {
    let bench = Bench::embedded().await;
    let path = file(&bench, 1000);
    let unfaithful = Unfaithful::on(bench.store.clone(), Lie::Holds);
    let _archiver = bench.archiver_on(bench.log.clone(), unfaithful.clone());
    let upload = bench.upload(&bench.client, &path, KEY);
    tokio::pin!(upload);
    tokio::select! {
        done = &mut upload => panic!("{done:?}"),
        () = unfaithful.forgot(3) => {}
    }
    assert!(bench.facts(id()).await.now().unwrap().receipt().is_none());
    unfaithful.be_honest();
    check(&bench, &path, &upload.await.unwrap()).await;
}

async fn an_abandoned_upload_is_opened_again(bench: Bench) {
    use caselock_proto::v1::{AbandonUploadRequest, ingest_service_client::IngestServiceClient};
    // Larger than what is on its way at once, so that it can't be sealed by the time that the first segment is seen.
    let path = file(&bench, 40 * SEGMENT);
    let upload = bench.upload(&bench.client, &path, KEY);
    let held = bench.wait_for("a segment", id(), |f| f.now().is_some_and(|g| !g.held_segments().is_empty()));
    tokio::select! {
        done = upload => panic!("{done:?}"),
        () = held => {}
    }
    assert_eq!(bench.facts(id()).await.phase(), Some(Phase::Open));
    let mut ingest = IngestServiceClient::connect(bench.address()).await.unwrap();
    ingest.abandon_upload(AbandonUploadRequest { recording_id: id().to_string() }).await.unwrap();
    let _archiver = bench.archiver(None);
    bench.wait_for("the end of it", id(), |facts| facts.phase() == Some(Phase::Abandoned)).await;
    bench.wait_for("tidiness", id(), |facts| facts.now().unwrap().finished_work().is_empty()).await;
    let path = file(&bench, 2 * SEGMENT);
    let uploaded = stored_in_the_end(&bench, &path, async {}).await;
    assert_eq!(uploaded.payload.generation, 1);
}

/// Records of `footage` that are no segment, of a recording nobody opened, or not what their header says: each is noted, and
/// what comes after them is stored.
async fn what_cannot_be_used_becomes_a_dead_letter(bench: Bench) {
    let partition = caselock_domain::partition::of(id(), bench.log.partitions(Topic::Footage));
    let append = async |record: Record| bench.log.append(Topic::Footage, partition, record).await.unwrap();
    let segment = |recording, value| {
        let segment = SegmentRef { recording, generation: 0, index: 0, value: SegmentValue([value; 32]) };
        let mut record = Record::new(recording.to_string(), "not these bytes");
        record.headers = segment.headers();
        record
    };
    append(Record::new("noise", "noise")).await;
    // An id of the same partition that nothing speaks of.
    let unknown = (0..).map(|n| RecordingId::derive(&"demo".parse().unwrap(), &format!("u{n}").parse().unwrap()));
    let count = bench.log.partitions(Topic::Footage);
    let unknown = unknown.into_iter().find(|id| caselock_domain::partition::of(*id, count) == partition).unwrap();
    append(segment(unknown, 7)).await;
    let path = file(&bench, SEGMENT + 1);
    let corrupted = async {
        bench.wait_for("the opening", id(), |facts| facts.phase().is_some()).await;
        append(segment(id(), 9)).await;
        std::mem::forget(bench.archiver(None));
    };
    // The corrupt segment spoils its generation: the log is not what it was.
    let uploaded = stored_in_the_end(&bench, &path, corrupted).await;
    assert!(uploaded.payload.generation <= 1);
    let mut reasons = Vec::new();
    for partition in 0..bench.log.partitions(Topic::DeadLetters) {
        for (_, record) in bench.partition(Topic::DeadLetters, partition).await {
            assert_eq!(header(&record, "cl-topic"), "caselock.footage.v1");
            reasons.push(header(&record, "cl-reason"));
        }
    }
    for reason in ["FOOTAGE_MALFORMED", "RECORDING_UNKNOWN"] {
        assert!(reasons.iter().any(|r| r == reason), "{reasons:?}");
    }
}

/// Two archivers claimed: the first in the log counts, the other's upload is dropped from the store.
async fn a_losing_claim_is_dropped(bench: Bench) {
    let path = file(&bench, 3 * SEGMENT);
    let key = object_key::original(&"demo".parse().unwrap(), id(), 0);
    let race = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        let faults = Faults::at(2, Death::After);
        let first = bench.archiver(Some(&faults));
        faults.died().await;
        first.kill();
        let new = NewObject { content_type: "a/b".into(), part_size: 8 << 20, lock_until: in_a_minute() };
        let loser = bench.store.begin(&key, &new).await.unwrap();
        let subject = Subject::Claimed(loser.clone());
        let claim = FactKey { recording: id(), generation: 0, subject };
        let now = Fact::Claimed(caselock_domain::time::Timestamp::now());
        caselock_log::append_fact(&*bench.log, &claim, Some(&now)).await.unwrap();
        std::mem::forget(bench.archiver(None));
        loser
    };
    let (uploaded, loser) = tokio::join!(bench.upload(&bench.client, &path, KEY), race);
    let uploaded = uploaded.unwrap();
    assert_eq!(uploaded.payload.generation, 0);
    check(&bench, &path, &uploaded).await;
    let bytes = bytes::Bytes::from_static(b"late");
    let put = bench.store.put_part(&key, &loser, 1, bytes.clone(), Crc64Nvme::of(&bytes)).await;
    assert_eq!(put.unwrap_err().kind, ErrorKind::MultipartGone);
}

fn in_a_minute() -> caselock_domain::time::Timestamp {
    caselock_domain::time::whole_seconds(caselock_domain::time::Timestamp::now() + std::time::Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_recording_through_two_gateways_at_once_is_one_object() {
    let bench = Bench::embedded().await;
    let path = file(&bench, 5 * SEGMENT + 3);
    let _archiver = bench.archiver(None);
    let other = bench.client_of(1);
    let (a, b) = tokio::join!(bench.upload(&bench.client, &path, KEY), bench.upload(&other, &path, KEY));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.receipt, b.receipt);
    check(&bench, &path, &a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_under_one_key_never_mix() {
    let bench = Bench::embedded().await;
    let paths = ["a", "b"].map(|name| {
        let path = bench.dir.path().join(name);
        random_file(&path, 3 * SEGMENT);
        path
    });
    let _archiver = bench.archiver(None);
    let other = bench.client_of(1);
    let (a, b) = tokio::join!(bench.upload(&bench.client, &paths[0], KEY), bench.upload(&other, &paths[1], KEY));
    // At most one gets the receipt; the other is refused, and stores nothing.
    match (a, b) {
        (Ok(a), Err(_)) => check(&bench, &paths[0], &a).await,
        (Err(_), Ok(b)) => check(&bench, &paths[1], &b).await,
        (Err(a), Err(b)) => {
            // Each stopped the other. Whoever comes again alone is stored.
            println!("{a}; {b}");
            let again = bench.upload(&bench.client, &paths[0], KEY).await;
            let again = match again {
                Ok(again) => again,
                Err(_) => bench.upload(&bench.client, &paths[1], KEY).await.unwrap(),
            };
            let own = blake3::hash(&std::fs::read(&paths[0]).unwrap()).as_bytes() == &again.payload.blake3.0;
            check(&bench, &paths[usize::from(!own)], &again).await;
        }
        (Ok(a), Ok(b)) => panic!("both stored: {a:?} {b:?}"),
    }
}
