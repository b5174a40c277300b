//! The audit names what is wrong, and the keeper repairs what can be repaired.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use caselock_domain::{object_key, retention::rule::Rolling, time::Timestamp};
use caselock_e2e::{Kind as On, Stack};
use caselock_registry::{Cases, Finding, Following, Keeper, Kind as What, Line, Summary, Wish, audit, rebuild};
use caselock_runtime::clock::system_clock;
use caselock_store::{NewObject, Store, create, oldest_version, read_document};
use caselock_store_s3::{S3Store, connect};
use common::{
    Kind,
    world::{BY, World, closed, demo, opened},
};
use jiff::ToSpan;

on_both_databases!(
    what_is_as_it_must_be_is_not_named,
    what_was_done_behind_its_back_is_named_and_repaired,
    what_is_lost_or_unknown_is_named,
);

async fn audited(cases: &Cases) -> (Vec<Line>, Summary) {
    let mut lines = Vec::new();
    let summary = audit(cases, &Rolling::default(), Duration::ZERO, |line| lines.push(line.clone())).await.unwrap();
    (lines, summary)
}

/// What was found, by kind and the end of its key.
async fn found(cases: &Cases) -> BTreeSet<(What, String)> {
    let findings = audited(cases).await.0.into_iter().flat_map(|line| line.findings);
    let end = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    findings.map(|Finding { finding, key }| (finding, end(&key))).collect()
}

async fn settle(world: &World) {
    while world.keeper().round().await.unwrap() > 0 {}
}

async fn what_is_as_it_must_be_is_not_named(kind: Kind) {
    let world = World::new(kind).await;
    for change in [opened(), closed(world.dial.at(), Some(10))] {
        world.append(change).await;
        settle(&world).await;
        let (lines, summary) = audited(&world.cases()).await;
        assert_eq!(summary, Summary { subjects: 2, ..Summary::default() }, "{lines:#?}");
        let line = lines.iter().find(|line| line.subject == world.id.to_string()).unwrap();
        let rule = line.rule.as_ref().unwrap();
        assert_eq!((Some(rule.until), rule.legal_hold), (line.locked_until, line.legal_hold));
    }
    // A hold that is about to go is no finding.
    world.reopen().await;
    settle(&world).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    let (lines, summary) = audited(&world.cases()).await;
    assert_eq!((summary.with_findings, summary.unsettled), (0, 2), "{lines:#?}");
    // As JSON, for a nightly job.
    let line = serde_json::to_value(&audited(&world.cases()).await.0[0]).unwrap();
    assert!(line["rule"]["because"] == "closed_case" && line["locked_until"].is_string(), "{line}");
}

async fn what_was_done_behind_its_back_is_named_and_repaired(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    settle(&world).await;
    let original = object_key::original(&demo(), world.id, 0);
    let version = oldest_version(&*world.store, &original).await.unwrap().unwrap().id;
    world.store.set_hold(&original, &version, false).await.unwrap();
    assert_eq!(found(&world.cases()).await, [(What::MissingHold, "original".to_owned())].into());
    settle(&world).await;
    assert!(world.hold().await && found(&world.cases()).await.is_empty());

    // Whoever may write to the directory can shorten a lock: here by a day.
    let manifest = object_key::manifest(&demo(), world.id, 0);
    let meta = world.dir.path().join(".caselock/meta").join(format!("{manifest}.json"));
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    let until: Timestamp = known["lock_until"].as_str().unwrap().parse().unwrap();
    known["lock_until"] = (until - 24.hours()).to_string().into();
    fs::write(&meta, known.to_string()).unwrap();
    let (_, summary) = audited(&world.cases()).await;
    assert_eq!((summary.with_findings, summary.under_retained), (1, 1));
    settle(&world).await;
    assert_eq!(audited(&world.cases()).await.1.with_findings, 0);
    // A hold that nobody wants.
    world.append(closed(world.dial.at(), Some(10))).await;
    settle(&world).await;
    world.store.set_hold(&original, &version, true).await.unwrap();
    assert_eq!(found(&world.cases()).await, [(What::NeedlessHold, "original".to_owned())].into());
    settle(&world).await;
    assert!(!world.hold().await && found(&world.cases()).await.is_empty());
}

async fn what_is_lost_or_unknown_is_named(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    settle(&world).await;
    let new = NewObject { content_type: "text/plain".into(), part_size: 0, lock_until: world.dial.at() + 24.hours() };
    let stray = ["v1/demo/recordings/00000000-0000-8000-8000-000000000000/0/original", "v1/demo/notes.txt"];
    for key in stray {
        create(&*world.store, key, &new, "x".into()).await.unwrap();
    }
    for key in [object_key::extension(&demo(), world.id, 7), object_key::disposal(&demo(), world.id, 9)] {
        create(&*world.store, &key, &new, "x".into()).await.unwrap();
    }
    let wish = Wish { until: world.dial.at(), approver: "王五".into(), reason: "断网".into(), by: BY.into() };
    world.cases().extend(&demo(), world.id, &wish).await.unwrap();
    settle(&world).await;
    for lost in [object_key::manifest(&demo(), world.id, 0), object_key::extension(&demo(), world.id, 1)] {
        fs::remove_file(world.dir.path().join(&lost)).unwrap();
        fs::remove_file(world.dir.path().join(".caselock/meta").join(format!("{lost}.json"))).unwrap();
    }
    let file = |number: u64| format!("{number:020}.json");
    let expected = [
        (What::MissingObject, "manifest.json".to_owned()),
        (What::MissingObject, file(1)),
        (What::UnknownObject, file(7)),
        (What::UnknownObject, file(9)),
        (What::UnknownObject, "original".to_owned()),
        (What::UnknownObject, "notes.txt".to_owned()),
    ];
    assert_eq!(found(&world.cases()).await, expected.into());
}

/// GOVERNANCE locks can be shortened by whoever may bypass them, and are none to the audit. A delete marker hides what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_locks_and_delete_markers_on_the_s3_server() {
    let world = World::new(Kind::Sqlite).await;
    let stack = Stack::prepare_to_lock_for_years(On::Distributed, &[]).await;
    let (raw, store): (_, Arc<dyn Store>) = (connect(&stack.s3).await, S3Store::open(&stack.s3).await);
    let in_two_days = SystemTime::now() + Duration::from_secs(2 * 86_400);
    let in_a_day = SystemTime::now() + Duration::from_secs(86_400);
    for key in world.store.keys("v1/demo/", None).await.unwrap().keys {
        let (_, bytes) = read_document(&*world.store, &key, 1 << 20).await.unwrap().unwrap();
        let put = raw.put_object().bucket(&stack.s3.bucket).key(stack.in_bucket(&key)).body(bytes.into());
        let put = put.checksum_algorithm("CRC64NVME".into()).object_lock_mode("GOVERNANCE".into());
        put.object_lock_retain_until_date(in_two_days.into()).send().await.unwrap();
        let set = raw.get_object_retention().bucket(&stack.s3.bucket).key(stack.in_bucket(&key)).send().await.unwrap();
        let mut shorter = set.retention.unwrap();
        shorter.retain_until_date = Some(in_a_day.into());
        let shorten = raw.put_object_retention().bucket(&stack.s3.bucket).key(stack.in_bucket(&key)).retention(shorter);
        shorten.bypass_governance_retention(true).send().await.unwrap();
    }
    let fresh = Kind::Postgres.fresh().await;
    let cases = Cases::new(fresh.db.clone(), store.clone(), system_clock(), common::world::rules(), 6.months());
    assert_eq!(rebuild(&cases).await.unwrap(), 1);
    // The copy of the original is another version than the manifest says: that can't be repaired.
    let copied = (What::UnknownVersion, "original".to_owned());
    let on_each = |what: What| ["original", "manifest.json"].map(|key| (what, key.to_owned()));
    let weak: BTreeSet<_> = [on_each(What::UnderRetained), on_each(What::MissingHold)]
        .concat()
        .into_iter()
        .chain([copied.clone()])
        .collect();
    assert_eq!(found(&cases).await, weak);
    let following = Following::new(cases.clone(), world.log.clone());
    let keeper = Keeper::new(cases.clone(), Arc::new(following), Rolling::default(), 1_000_000);
    keeper.round().await.unwrap();
    assert_eq!(found(&cases).await, [copied.clone()].into());

    let manifest = object_key::manifest(&demo(), world.id, 0);
    raw.delete_object().bucket(&stack.s3.bucket).key(stack.in_bucket(&manifest)).send().await.unwrap();
    assert_eq!(found(&cases).await, [copied.clone(), (What::Hidden, "manifest.json".to_owned())].into());
    keeper.round().await.unwrap();
    assert_eq!(found(&cases).await, [copied].into());
    assert_eq!(
        raw.head_object()
            .bucket(&stack.s3.bucket)
            .key(stack.in_bucket(&manifest))
            .send()
            .await
            .unwrap()
            .delete_marker(),
        None
    );
}
