//! Loss behind the services' backs, and stores that don't keep their word: "send again" by itself, and stored in the end.
#![allow(clippy::unwrap_used)]

use caselock_client::Uploaded;
use caselock_domain::{
    digest::{Blake3, SegmentValue, segment_digest},
    fact::{Fact, FactKey, PartStored, Subject},
    footage::SegmentRef,
    id::RecordingId,
    object_key,
    state::Phase,
    time::Timestamp,
};
use caselock_e2e::{
    Bench, Death, Faults, KEY, Kind, Lie, PATIENCE, Unfaithful, header, id, kept_contract, metadata, on_both_stacks,
};
use caselock_log::{Record, Topic};
use caselock_proto::{
    events::v1::RecordingResendNeeded,
    v1::{
        OpenUploadRequest, SegmentHeader, WriteSegmentsRequest, ingest_service_client::IngestServiceClient,
        write_segments_request::Content, write_segments_response::Outcome,
    },
};
use caselock_store::{Crc64Nvme, NewObject, oldest_version};
use prost::Message;

const SEGMENT: u64 = 8 << 20;

on_both_stacks!(
    a_multipart_upload_aborted_before_the_seal_is_sent_again,
    a_multipart_upload_aborted_after_the_seal_is_sent_again,
    a_log_that_lost_footage_asks_for_it_again,
    a_log_that_lost_one_record_asks_for_all_again,
    an_object_that_nobody_explains_is_left_and_the_next_generation_stored,
    an_object_in_the_way_of_a_single_call_is_left_as_well,
    one_segment_that_nobody_seals_is_stored_as_a_part,
    parts_that_do_not_make_up_what_was_sealed_are_sent_again,
    parts_of_another_claim_are_sent_again,
    an_abandoned_upload_is_opened_again,
    what_cannot_be_used_becomes_a_dead_letter,
    a_recording_whose_facts_are_forgotten_is_found_again_in_the_store,
    a_later_generation_is_found_again_as_well,
    a_store_that_does_not_keep_a_hold_gives_no_receipt,
);

async fn a_multipart_upload_aborted_before_the_seal_is_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(3 * SEGMENT);
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
    let uploaded = bench.stored_in_the_end(&path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
    let events = bench.records(Topic::Events, id()).await;
    let types: Vec<_> = events.iter().map(|(_, record)| header(record, "ce_type")).collect();
    assert!(types.contains(&"io.caselock.recording.resend-needed.v1".to_owned()), "{types:?}");
}

async fn a_multipart_upload_aborted_after_the_seal_is_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT);
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
    let uploaded = bench.stored_in_the_end(&path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
    let old = object_key::original(&"demo".parse().unwrap(), id(), 0);
    assert_eq!(oldest_version(&*bench.store, &old).await.unwrap(), None);
}

async fn a_log_that_lost_footage_asks_for_it_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT + 1);
    let meanwhile = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        bench.lose_all_footage().await;
        std::mem::forget(bench.archiver(None));
    };
    let uploaded = bench.stored_in_the_end(&path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
}

async fn a_log_that_lost_one_record_asks_for_all_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(3 * SEGMENT);
    let meanwhile = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        // The first segment alone: the others are still there.
        let partition = caselock_domain::partition::of(id(), bench.log.partitions(Topic::Footage));
        let bounds = bench.log.bounds(Topic::Footage, partition).await.unwrap();
        assert_eq!(bounds.end - bounds.start, 3);
        bench.log.delete_before(Topic::Footage, partition, bounds.start + 1).await.unwrap();
        std::mem::forget(bench.archiver(None));
    };
    let uploaded = bench.stored_in_the_end(&path, meanwhile).await;
    assert_eq!(uploaded.payload.generation, 1);
}

async fn an_object_that_nobody_explains_is_left_and_the_next_generation_stored(kind: Kind) {
    an_object_in_the_way_is_left(kind, SEGMENT + 1).await;
}

/// As long as the recording, and not the recording.
async fn an_object_in_the_way_of_a_single_call_is_left_as_well(kind: Kind) {
    an_object_in_the_way_is_left(kind, b"somebody else's".len() as u64).await;
}

async fn an_object_in_the_way_is_left(kind: Kind, size: u64) {
    let bench = Bench::of(kind).await;
    let path = bench.file(size);
    let key = object_key::original(&"demo".parse().unwrap(), id(), 0);
    let alien = bytes::Bytes::from_static(b"somebody else's");
    let lock_until = caselock_domain::time::whole_seconds(Timestamp::now() + std::time::Duration::from_secs(60));
    let new = NewObject { content_type: "a/b".into(), part_size: 0, lock_until };
    let version = bench.store.put(&key, &new, alien.clone(), Crc64Nvme::of(&alien)).await.unwrap();
    let _archiver = bench.archiver(None);
    let uploaded = bench.stored_in_the_end(&path, async {}).await;
    assert_eq!(uploaded.payload.generation, 1);
    assert_eq!(oldest_version(&*bench.store, &key).await.unwrap().unwrap().id, version);
    assert_eq!(resend_reason(&bench).await, "OBJECT_UNKNOWN");
}

/// Why the footage had to be sent again, as the event tells it.
async fn resend_reason(bench: &Bench) -> String {
    let kept = kept_contract(&*bench.log, &[]).await;
    assert!(kept.told("recording.resend-needed") > 0, "{kept:?}");
    let events = bench.records(Topic::Events, id()).await.into_iter().map(|(_, record)| record);
    let resend = "io.caselock.recording.resend-needed.v1";
    let event = events.into_iter().find(|record| header(record, "ce_type") == resend).expect("the event");
    RecordingResendNeeded::decode(event.payload.unwrap()).unwrap().reason
}

/// Opens the recording of [`KEY`] and has its segments acknowledged, without sealing it; its digest.
async fn acknowledged(bench: &Bench, path: &std::path::Path) -> (Blake3, Vec<SegmentValue>) {
    let bytes = std::fs::read(path).unwrap();
    let mut ingest = IngestServiceClient::connect(bench.address()).await.unwrap();
    let size = Some(bytes.len() as u64);
    let open = OpenUploadRequest { idempotency_key: KEY.into(), metadata: Some(metadata()), size };
    ingest.open_upload(open).await.unwrap();
    let (mut requests, mut values) = (Vec::new(), Vec::new());
    for (index, segment) in (0..).zip(bytes.chunks(SEGMENT as usize)) {
        let value = segment_digest(index, SEGMENT as u32, segment).unwrap().value;
        values.push(value);
        let header = SegmentHeader {
            recording_id: id().to_string(),
            generation: 0,
            index,
            length: segment.len() as u32,
            value: value.0.to_vec().into(),
        };
        requests.push(Content::Header(header));
        requests.extend(segment.chunks(1 << 20).map(|chunk| Content::Chunk(chunk.to_vec().into())));
    }
    let requests: Vec<_> = requests.into_iter().map(|c| WriteSegmentsRequest { content: Some(c) }).collect();
    let mut answers = ingest.write_segments(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for _ in &values {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.outcome, Some(Outcome::Accepted(_))), "{answer:?}");
    }
    (Blake3(*blake3::hash(&bytes).as_bytes()), values)
}

/// What comes after it in the log does not wait for its seal.
async fn one_segment_that_nobody_seals_is_stored_as_a_part(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    acknowledged(&bench, &path).await;
    let _archiver = bench.archiver(None);
    bench.wait_for("the part", id(), |facts| facts.now().is_some_and(|now| now.is_stored_up_to(1))).await;
    let uploaded = bench.stored_in_the_end(&path, async {}).await;
    assert_eq!(uploaded.payload.generation, 0);
}

async fn append(bench: &Bench, subject: Subject, fact: Fact) {
    let key = FactKey { recording: id(), generation: 0, subject };
    caselock_log::append_fact(&*bench.log, &key, Some(&fact)).await.unwrap();
}

async fn parts_that_do_not_make_up_what_was_sealed_are_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT);
    acknowledged(&bench, &path).await;
    // No gateway writes such a seal.
    append(&bench, Subject::Sealed(Blake3([9; 32])), Fact::Sealed(2 * SEGMENT, None)).await;
    let _archiver = bench.archiver(None);
    bench.wait_for("send again", id(), |facts| facts.current() == 1).await;
    let uploaded = bench.stored_in_the_end(&path, async {}).await;
    assert_eq!(uploaded.payload.generation, 1);
    assert_eq!(resend_reason(&bench).await, "DIGEST_MISMATCH");
}

async fn parts_of_another_claim_are_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT);
    let (whole, values) = acknowledged(&bench, &path).await;
    // As from an archiver whose claim lost, and that did not look.
    let part = PartStored {
        length: SEGMENT as u32,
        etag: "e".into(),
        crc64nvme: 0,
        multipart_id: "another".into(),
        root: None,
    };
    append(&bench, Subject::PartStored(0, values[0]), Fact::PartStored(part)).await;
    append(&bench, Subject::Sealed(whole), Fact::Sealed(2 * SEGMENT, None)).await;
    let _archiver = bench.archiver(None);
    bench.wait_for("send again", id(), |facts| facts.current() == 1).await;
    let uploaded = bench.stored_in_the_end(&path, async {}).await;
    assert_eq!(uploaded.payload.generation, 1);
    assert_eq!(resend_reason(&bench).await, "PARTS_OF_ANOTHER_CLAIM");
}

async fn a_recording_whose_facts_are_forgotten_is_found_again_in_the_store(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(SEGMENT + 5);
    let _archiver = bench.archiver(None);
    let first = bench.stored_in_the_end(&path, async {}).await;
    found_again_after_all_is_forgotten(&bench, &path, &first).await;
}

async fn a_later_generation_is_found_again_as_well(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(SEGMENT + 5);
    let first = bench
        .stored_in_the_end(&path, async {
            bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
            bench.lose_all_footage().await;
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
    let keys = bench.store.keys(&object_key::recording(&first.payload.bureau, id()), None).await.unwrap().keys;
    assert_eq!(keys.iter().filter(|key| key.ends_with("/original")).count(), 1, "{keys:?}");
    bench.wait_for("tidiness", id(), |facts| facts.now().is_some_and(|now| now.finished_work().is_empty())).await;
}

async fn a_store_that_does_not_keep_a_hold_gives_no_receipt(kind: Kind) {
    no_receipt_while_it_lies(kind, Lie::Holds).await;
}

/// On the embedded store alone: a real S3 server refuses to create what is locked until the past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_keep_a_date_gives_no_receipt() {
    no_receipt_while_it_lies(Kind::Embedded, Lie::Dates).await;
}

/// What is said to be set is read back: until it is there, nobody is told that the recording is stored.
async fn no_receipt_while_it_lies(kind: Kind, lie: Lie) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    let unfaithful = Unfaithful::on(bench.store.clone(), lie);
    let _archiver = bench.archiver_on(bench.log.clone(), unfaithful.clone());
    let mut upload = Box::pin(bench.upload(&bench.client, &path, KEY));
    tokio::select! {
        done = &mut upload => panic!("{done:?}"),
        () = unfaithful.forgot(3) => {}
    }
    assert!(bench.facts(id()).await.now().unwrap().receipt().is_none());
    unfaithful.be_honest();
    bench.check(&path, &upload.await.unwrap()).await;
}

async fn an_abandoned_upload_is_opened_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    use caselock_proto::v1::{AbandonUploadRequest, ingest_service_client::IngestServiceClient};
    // Larger than what is on its way at once, so that it can't be sealed by the time that the first segment is seen.
    let path = bench.file(40 * SEGMENT);
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
    let kept = kept_contract(&*bench.log, &[]).await;
    assert!(kept.told("recording.abandoned") > 0, "{kept:?}");
    let path = bench.file(2 * SEGMENT);
    let uploaded = bench.stored_in_the_end(&path, async {}).await;
    assert_eq!(uploaded.payload.generation, 1);
}

/// A recording whose step keeps failing for good gives way: its segments become dead letters, the log is freed, others are
/// stored; and once the step succeeds, what is missing is asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_whose_step_fails_for_good_gives_way() {
    what_fails_gives_way(Lie::Uploads).await;
}

/// So does one whose parts the store says, again and again, it may take later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_whose_parts_are_never_taken_gives_way() {
    what_fails_gives_way(Lie::Parts).await;
}

async fn what_fails_gives_way(lie: Lie) {
    let bench = Bench::embedded().await;
    let path = bench.file(SEGMENT + 5);
    let unfaithful = Unfaithful::on(bench.store.clone(), lie);
    let stop = bench.hasty_archiver_on(unfaithful.clone());
    let partition = caselock_domain::partition::of(id(), bench.log.partitions(Topic::Footage));
    let gives_way = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        let freed = async {
            let mut bounds = bench.log.bounds(Topic::Footage, partition).await.unwrap();
            while bounds.start < bounds.end {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                bounds = bench.log.bounds(Topic::Footage, partition).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, freed).await.expect("the log is freed");
        let letters = bench.records(Topic::DeadLetters, id()).await;
        let reasons: Vec<_> = letters.iter().map(|(_, record)| header(record, "cl-reason")).collect();
        assert!(reasons.len() >= 2 && reasons.iter().all(|reason| reason == "STEP_FAILED"), "{reasons:?}");
        assert!(letters.iter().all(|(_, record)| record.payload.as_ref().is_none_or(|detail| detail.len() < 1000)));
        unfaithful.be_honest();
    };
    let uploaded = bench.stored_in_the_end(&path, gives_way).await;
    assert!(uploaded.payload.generation >= 1);
    stop.cancel();
}

/// Each check of the start-up probe finds the store that fails it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_a_check_of_the_probe_is_refused_by_the_checks_name() {
    let bench = Bench::embedded().await;
    for check in ["clock", "lock-read-back", "delete", "bypass", "shorten", "hold-read-back", "create-only", "checksum"]
    {
        let refusal = bench.archiver_refuses(Unfaithful::on(bench.store.clone(), Lie::Check(check))).await;
        assert!(refusal.contains(&format!("fails the check {check}")), "{check}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_drops_unfinished_uploads_too_soon_is_refused() {
    let bench = Bench::embedded().await;
    let refusal = bench.archiver_refuses(Unfaithful::on(bench.store.clone(), Lie::Expiry)).await;
    assert!(
        refusal.contains("drops unfinished uploads after 1 days") && refusal.contains("abandon_after_days"),
        "{refusal}"
    );
}

/// Records of `footage` that are no segment, of a recording nobody opened, or not what their header says: each is noted, and
/// what comes after them is stored.
async fn what_cannot_be_used_becomes_a_dead_letter(kind: Kind) {
    let bench = Bench::of(kind).await;
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
    let path = bench.file(SEGMENT + 1);
    let corrupted = async {
        bench.wait_for("the opening", id(), |facts| facts.phase().is_some()).await;
        append(segment(id(), 9)).await;
        std::mem::forget(bench.archiver(None));
    };
    // The corrupt segment spoils its generation: the log is not what it was.
    let uploaded = bench.stored_in_the_end(&path, corrupted).await;
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
