//! Two of a kind: claims, gateways, completions, and files under one key. One object, or a refusal.
#![allow(clippy::unwrap_used)]

use caselock_domain::{
    digest::SegmentValue,
    fact::{Acknowledged, Completed, Fact, FactKey, Subject},
    object_key,
    state::Phase,
};
use caselock_e2e::{Bench, Death, Faults, KEY, Kind, id, on_both_stacks, random_file};
use caselock_store::{Crc64Nvme, ErrorKind, NewObject, Part};

const SEGMENT: u64 = 8 << 20;

on_both_stacks!(
    a_losing_claim_is_dropped,
    a_completion_that_comes_after_send_again_makes_no_object,
    what_was_completed_is_not_sent_again,
    what_was_stored_by_a_single_call_is_not_sent_again,
    a_single_call_that_comes_after_send_again_is_no_receipt,
    what_was_claimed_and_stored_by_a_single_call_is_one_object,
    one_recording_through_two_gateways_at_once_is_one_object,
    two_files_under_one_key_never_mix,
);

/// Two parts stored, and then death at the completion, before it takes effect or after.
const COMPLETION: i64 = 6;
/// Or death at the single call that stores a recording of one segment.
const SINGLE_CALL: i64 = 0;

/// Death at that change; and then another value for the first segment turns up in the log, as from a gateway that was slow.
async fn dies_at_the_completion_of_what_conflicts(bench: &Bench, change: i64, death: Death) {
    bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
    let faults = Faults::at(change, death);
    let first = bench.archiver(Some(&faults));
    faults.died().await;
    first.kill();
    let other = Acknowledged { length: 8 << 20, footage_offset: 0, root: None, at: None };
    let subject = Subject::Acknowledged(0, SegmentValue([9; 32]));
    let key = FactKey { recording: id(), generation: 0, subject };
    caselock_log::append_fact(&*bench.log, &key, Some(&Fact::Acknowledged(other))).await.unwrap();
}

async fn a_completion_that_comes_after_send_again_makes_no_object(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT);
    let upload = bench.upload(&bench.client, &path, KEY);
    let dies = async {
        dies_at_the_completion_of_what_conflicts(&bench, COMPLETION, Death::Before).await;
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

async fn what_was_completed_is_not_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(2 * SEGMENT);
    let uploaded = bench
        .stored_in_the_end(&path, async {
            dies_at_the_completion_of_what_conflicts(&bench, COMPLETION, Death::After).await;
            std::mem::forget(bench.archiver(None));
        })
        .await;
    assert_eq!(uploaded.payload.generation, 0);
}

async fn what_was_stored_by_a_single_call_is_not_sent_again(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    let uploaded = bench
        .stored_in_the_end(&path, async {
            dies_at_the_completion_of_what_conflicts(&bench, SINGLE_CALL, Death::After).await;
            // Nor are the bytes needed any more: the object is recognised.
            bench.lose_all_footage().await;
            std::mem::forget(bench.archiver(None));
        })
        .await;
    assert_eq!(uploaded.payload.generation, 0);
}

/// An archiver that was cut off before its single call, and goes on when the footage was asked for again: it stores an object, and
/// says so, about a generation that is over.
async fn a_single_call_that_comes_after_send_again_is_no_receipt(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
    let uploaded = bench
        .stored_in_the_end(&path, async {
            bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
            bench.lose_all_footage().await;
            let second = bench.archiver(None);
            // Over, and tidied: before that, an object of the first generation would count.
            bench
                .wait_for("send again", id(), |facts| {
                    facts.current() == 1 && facts.others().all(|(_, generation)| generation.finished_work().is_empty())
                })
                .await;
            second.kill();
            let key = object_key::original(&"demo".parse().unwrap(), id(), 0);
            let new = NewObject { content_type: "a/b".into(), part_size: 0, lock_until: in_a_minute() };
            let crc = Crc64Nvme::of(&bytes);
            let version = bench.store.put(&key, &new, bytes.clone(), crc).await.unwrap();
            let now = caselock_domain::time::whole_seconds(caselock_domain::time::Timestamp::now());
            let late =
                Completed { version, stored_at: now, lock_until: in_a_minute(), legal_hold: false, crc64nvme: crc.0 };
            let completed = FactKey { recording: id(), generation: 0, subject: Subject::Completed([7; 16]) };
            caselock_log::append_fact(&*bench.log, &completed, Some(&Fact::Completed(late))).await.unwrap();
            std::mem::forget(bench.archiver(None));
        })
        .await;
    assert!(uploaded.payload.generation >= 1, "{uploaded:?}");
}

/// One archiver stores the object by a single call; another had claimed before the seal came, and goes on so.
async fn what_was_claimed_and_stored_by_a_single_call_is_one_object(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(1000);
    let key = object_key::original(&"demo".parse().unwrap(), id(), 0);
    let race = async {
        bench.wait_for("the seal", id(), |facts| facts.phase() == Some(Phase::Sealed)).await;
        let faults = Faults::at(SINGLE_CALL, Death::After);
        let first = bench.archiver(Some(&faults));
        faults.died().await;
        first.kill();
        let new = NewObject { content_type: "a/b".into(), part_size: 8 << 20, lock_until: in_a_minute() };
        let claimed = bench.store.begin(&key, &new).await.unwrap();
        let claim = FactKey { recording: id(), generation: 0, subject: Subject::Claimed(claimed.clone()) };
        let now = Fact::Claimed(caselock_domain::time::Timestamp::now());
        caselock_log::append_fact(&*bench.log, &claim, Some(&now)).await.unwrap();
        std::mem::forget(bench.archiver(None));
        claimed
    };
    let (uploaded, claimed) = tokio::join!(bench.upload(&bench.client, &path, KEY), race);
    let uploaded = uploaded.unwrap();
    assert_eq!(uploaded.payload.generation, 0);
    bench.check(&path, &uploaded).await;
    let bytes = bytes::Bytes::from_static(b"late");
    let put = bench.store.put_part(&key, &claimed, 1, bytes.clone(), Crc64Nvme::of(&bytes)).await;
    assert_eq!(put.unwrap_err().kind, ErrorKind::MultipartGone);
}

/// Two archivers claimed: the first in the log counts, the other's upload is dropped from the store.
async fn a_losing_claim_is_dropped(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(3 * SEGMENT);
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
    bench.check(&path, &uploaded).await;
    let bytes = bytes::Bytes::from_static(b"late");
    let put = bench.store.put_part(&key, &loser, 1, bytes.clone(), Crc64Nvme::of(&bytes)).await;
    assert_eq!(put.unwrap_err().kind, ErrorKind::MultipartGone);
}

fn in_a_minute() -> caselock_domain::time::Timestamp {
    caselock_domain::time::whole_seconds(caselock_domain::time::Timestamp::now() + std::time::Duration::from_secs(60))
}

async fn one_recording_through_two_gateways_at_once_is_one_object(kind: Kind) {
    let bench = Bench::of(kind).await;
    let path = bench.file(5 * SEGMENT + 3);
    let _archiver = bench.archiver(None);
    let other = bench.client_of(1);
    let (a, b) = tokio::join!(bench.upload(&bench.client, &path, KEY), bench.upload(&other, &path, KEY));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.receipt, b.receipt);
    bench.check(&path, &a).await;
}

async fn two_files_under_one_key_never_mix(kind: Kind) {
    let bench = Bench::of(kind).await;
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
        (Ok(a), Err(_)) => bench.check(&paths[0], &a).await,
        (Err(_), Ok(b)) => bench.check(&paths[1], &b).await,
        (Err(a), Err(b)) => {
            // Each stopped the other. Whoever comes again alone is stored.
            println!("{a}; {b}");
            let again = bench.upload(&bench.client, &paths[0], KEY).await;
            let again = match again {
                Ok(again) => again,
                Err(_) => bench.upload(&bench.client, &paths[1], KEY).await.unwrap(),
            };
            let own = blake3::hash(&std::fs::read(&paths[0]).unwrap()).as_bytes() == &again.payload.blake3.0;
            bench.check(&paths[usize::from(!own)], &again).await;
        }
        (Ok(a), Ok(b)) => panic!("both stored: {a:?} {b:?}"),
    }
}
