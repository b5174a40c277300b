//! Locks follow cases: never less than the rule says, whatever dies, is late, or is not known yet.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use caselock_domain::{
    case::{CaseChange, CaseId},
    id::BureauId,
    manifest::Manifest,
    object_key,
    retention::{end_of, rule::Rolling},
    time::Timestamp,
};
use caselock_e2e::{Bench, Death, Faults, Lie, Unfaithful};
use caselock_log::{Record, Topic};
use caselock_proto::events::v1::RecordingStored;
use caselock_registry::{Db, Keeper, Kind as What, Line, RegistryError, audit, rebuild};
use caselock_store::{Lock, NewObject, Store, create, oldest_version, read_document};
use common::{
    Kind,
    world::{BY, NUMBER, World, closed, demo, noted, number, opened, uploaded},
};
use jiff::ToSpan;
use sqlx::Row;

on_both_databases!(
    a_whole_life,
    killed_between_any_two_steps_it_ends_the_same,
    a_slow_lift_does_not_undo_a_reopening,
    a_lift_that_comes_late_is_put_right_and_not_relied_on,
    a_store_that_forgets_what_it_says_yes_to_is_not_relied_on,
    nothing_is_lifted_on_a_view_that_may_be_behind,
    nothing_is_lifted_while_an_entry_is_not_known,
    what_fails_for_one_object_is_done_for_the_others,
    no_case_is_closed_by_a_clock_that_may_be_wrong,
    nothing_is_lifted_or_removed_by_a_clock_that_may_be_wrong,
    the_store_is_asked_no_faster_than_the_pace,
    a_case_opened_later_takes_what_was_named_for_it,
    what_is_not_as_the_rule_says_is_counted,
);

fn in_years(from: Timestamp, years: i64) -> Option<Timestamp> {
    Some(end_of(from, &years.years()).unwrap())
}

async fn a_whole_life(kind: Kind) {
    let world = World::new(kind).await;
    let keeper = world.keeper();
    let floor = end_of(world.dial.at(), &6.months()).unwrap();
    keeper.round().await.unwrap();
    // Named for a case that nobody opened: as if it were open.
    assert_eq!(world.lock().await, Lock { until: Some(floor), hold: true });
    world.append(opened()).await;
    keeper.round().await.unwrap();
    assert_eq!(world.lock().await, Lock { until: Some(floor), hold: true });
    // Long before the lock runs out it is rolled forward.
    world.dial.forward(4.months());
    keeper.round().await.unwrap();
    let rolled = end_of(world.dial.at(), &6.months()).unwrap();
    assert_eq!(world.lock().await, Lock { until: Some(rolled), hold: true });
    // Closed: its own date, and no hold.
    let closing = world.dial.at();
    world.append(closed(closing, Some(10))).await;
    while keeper.round().await.unwrap() > 0 {}
    assert_eq!(world.lock().await, Lock { until: in_years(closing, 10), hold: false });
    // Reopened: held again before that is answered.
    world.reopen().await;
    keeper.settle(vec![world.id.to_string()]).await.unwrap();
    assert_eq!(world.lock().await, Lock { until: in_years(closing, 10), hold: true });
    world.dial.forward(1.month());
    let closing = world.dial.at();
    world.append(closed(closing, Some(30))).await;
    while keeper.round().await.unwrap() > 0 {}
    assert_eq!(world.lock().await, Lock { until: in_years(closing, 30), hold: false });
    // A class of its own kind: for ever.
    world.reopen().await;
    world.append(closed(closing, None)).await;
    while keeper.round().await.unwrap() > 0 {}
    world.dial.forward(31.years());
    while keeper.round().await.unwrap() > 0 {}
    let held = world.lock().await;
    assert!(held.hold && held.until > Some(world.dial.at()), "{held:?}");
    // The record of the case is kept like what it is about.
    let record = world.store.keys("v1/demo/cases/", None).await.unwrap().keys;
    assert_eq!(record.len(), 6);
    for key in record {
        let version = oldest_version(&*world.store, &key).await.unwrap().unwrap().id;
        let lock = world.store.lock(&key, &version).await.unwrap();
        assert!(lock.hold && lock.until > Some(world.dial.at()), "{key} {lock:?}");
    }
}

async fn no_case_is_closed_by_a_clock_that_may_be_wrong(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    let ahead = Unfaithful::on(world.store.clone(), Lie::Check("clock"));
    let store: Arc<dyn Store> = ahead.clone();
    let (cases, number) = (world.cases_on(&store), number(NUMBER));
    let close = closed(world.dial.at(), Some(10));
    let asked = cases.append(&demo(), &number, BY, close.clone()).await;
    assert!(matches!(asked, Err(RegistryError::Clock(_))), "{asked:?}");
    assert!(world.cases().find(&demo(), &number).await.unwrap().unwrap().closing.is_none());
    ahead.be_honest();
    assert!(cases.append(&demo(), &number, BY, close).await.unwrap().closing.is_some());
}

async fn nothing_is_lifted_or_removed_by_a_clock_that_may_be_wrong(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    let until = in_years(world.dial.at(), 10);
    // The store's clock is a minute and a half ahead of the registry's.
    let ahead = Unfaithful::on(world.store.clone(), Lie::Check("clock"));
    let store: Arc<dyn Store> = ahead.clone();
    let keeper = world.keeper_on(&store);
    keeper.round().await.unwrap();
    // What protects more is done all the same.
    assert_eq!(world.lock().await, Lock { until, hold: true });
    world.dial.forward(11.years());
    let asked = world.disposer_on(&world.log, &store).dispose(&demo(), world.id, BY, "x").await;
    assert!(matches!(asked, Err(RegistryError::Clock(_))), "{asked:?}");
    ahead.be_honest();
    while keeper.round().await.unwrap() > 0 {}
    assert!(!world.hold().await);
}

async fn the_store_is_asked_no_faster_than_the_pace(kind: Kind) {
    let world = World::new(kind).await;
    for number in 0..20 {
        world.stores(&format!("paced-{number}"), |_| {}).await;
    }
    // Twenty-one subjects, the first at once, each of the others a tenth of a second after the one before.
    let keeper = Keeper::new(world.cases(), Arc::new(world.following(&world.store)), Rolling::default(), 10);
    let began = Instant::now();
    while keeper.round().await.unwrap() > 0 {}
    assert!(began.elapsed() >= Duration::from_millis(1_990), "{:?}", began.elapsed());
}

async fn killed_between_any_two_steps_it_ends_the_same(kind: Kind) {
    let bench = Arc::new(Bench::embedded().await);
    let id = uploaded(&bench, "a").await;
    for death in [Death::Before, Death::After] {
        for step in 0.. {
            let world = World::copy(kind, &bench, id).await;
            world.append(opened()).await;
            while world.keeper().round().await.unwrap() > 0 {}
            // Closing sets dates and takes holds off.
            world.append(closed(world.dial.at(), Some(10))).await;
            let until = in_years(world.dial.at(), 10);
            let faults = Faults::at(step, death);
            let dying = world.keeper_on(&faults.store(world.store.clone()));
            let died = tokio::select! {
                () = faults.died() => true,
                () = async { while dying.round().await.unwrap() > 0 {} } => false,
            };
            let between = world.lock().await;
            assert!(between.hold || between.until == until, "{death:?} {step}: {between:?}");
            while world.keeper().round().await.unwrap() > 0 {}
            assert_eq!(world.lock().await, Lock { until, hold: false }, "{death:?} {step}");
            // Reopening puts the holds on again.
            world.reopen().await;
            let faults = Faults::at(step, death);
            let dying = world.keeper_on(&faults.store(world.store.clone()));
            tokio::select! {
                () = faults.died() => {}
                settled = dying.settle(vec![id.to_string()]) => {
                    // Who died while a hold was on its way off leaves a doubt for some minutes.
                    let is_in_doubt = died && matches!(settled, Err(RegistryError::Unsettled));
                    assert!(is_in_doubt || settled.is_ok(), "{death:?} {step}: {settled:?}");
                    assert!(world.hold().await, "{death:?} {step}");
                }
            }
            while world.keeper().round().await.unwrap() > 0 {}
            assert_eq!(world.lock().await, Lock { until, hold: true }, "{death:?} {step}");
            if !died {
                // Of the recording's objects and the case's entries: a date and a hold each.
                assert!(step >= 6, "only {step} steps were seen");
                break;
            }
        }
    }
}

async fn a_slow_lift_does_not_undo_a_reopening(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    let slow = Unfaithful::on(world.store.clone(), Lie::SlowLift);
    let store: Arc<dyn Store> = slow.clone();
    let keeper = world.keeper_on(&store);
    let lifting = tokio::spawn({
        let keeper = keeper.clone();
        async move { while keeper.round().await.unwrap() > 0 {} }
    });
    slow.forgot(1).await;
    // It is reopened while the store has the order to lift the hold.
    world.reopen().await;
    let mut settling = tokio::spawn({
        let (keeper, id) = (keeper.clone(), world.id.to_string());
        async move { keeper.settle(vec![id]).await }
    });
    // Nobody is answered before the order has ended.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut settling).await.is_err());
    slow.be_honest();
    settling.await.unwrap().unwrap();
    assert!(world.hold().await);
    lifting.await.unwrap();
    assert!(world.hold().await);
}

async fn a_lift_that_comes_late_is_put_right_and_not_relied_on(kind: Kind) {
    let world = World::new(kind).await;
    let closing = world.dial.at();
    world.append(opened()).await;
    world.append(closed(closing, Some(10))).await;
    let late = Unfaithful::on(world.store.clone(), Lie::LateLift);
    let store: Arc<dyn Store> = late.clone();
    let keeper = world.keeper_on(&store);
    keeper.round().await.unwrap();
    late.forgot(1).await;
    late.be_honest();
    world.reopen().await;
    let answer = keeper.settle(vec![world.id.to_string()]).await.unwrap_err();
    assert!(matches!(answer, RegistryError::Unsettled) && answer.is_retryable(), "{answer}");
    // The order to lift arrives only now: nothing can prevent that, and the date stands. The next look puts it right.
    late.deliver().await;
    assert_eq!(world.lock().await, Lock { until: in_years(closing, 10), hold: false });
    world.dial.forward("PT61S".parse().unwrap());
    keeper.round().await.unwrap();
    assert!(world.hold().await);
    // Later than any order can arrive, the answer is given.
    world.dial.forward("PT20M".parse().unwrap());
    keeper.settle(vec![world.id.to_string()]).await.unwrap();
    assert!(world.hold().await);
}

/// What the store says yes to counts once it was read back.
async fn a_store_that_forgets_what_it_says_yes_to_is_not_relied_on(kind: Kind) {
    let world = World::new(kind).await;
    let closing = world.dial.at();
    world.append(opened()).await;
    world.append(closed(closing, Some(10))).await;
    let forgets = Unfaithful::on(world.store.clone(), Lie::Dates);
    let keeper = world.keeper_on(&(forgets.clone() as Arc<dyn Store>));
    keeper.round().await.unwrap();
    forgets.forgot(1).await;
    assert!(world.hold().await);
    forgets.be_honest();
    world.dial.forward("PT61S".parse().unwrap());
    while keeper.round().await.unwrap() > 0 {}
    assert_eq!(world.lock().await, Lock { until: in_years(closing, 10), hold: false });

    let forgets = Unfaithful::on(world.store.clone(), Lie::Holds);
    let keeper = world.keeper_on(&(forgets.clone() as Arc<dyn Store>));
    world.reopen().await;
    let answer = keeper.settle(vec![world.id.to_string()]).await;
    assert!(answer.is_err() && !world.hold().await, "{answer:?}");
    forgets.be_honest();
    keeper.settle(vec![world.id.to_string()]).await.unwrap();
    assert!(world.hold().await);
}

async fn nothing_is_lifted_on_a_view_that_may_be_behind(kind: Kind) {
    let world = World::new(kind).await;
    let keeper = world.keeper();
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    let run = async |sql: &str| {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(world.fresh.db.pool()).await.unwrap();
    };
    // A rebuild is under way: dates are set, but no hold goes.
    run("INSERT INTO rebuild (id, after_key) VALUES (1, '')").await;
    keeper.round().await.unwrap();
    assert_eq!(world.lock().await, Lock { until: in_years(world.dial.at(), 10), hold: true });
    run("DELETE FROM rebuild").await;
    // An entry may have been written that nobody has seen.
    run(&format!(
        "INSERT INTO case_intents (case_id, seq, bureau, number, at) VALUES ('x', 1, 'demo', '9', {})",
        world.dial.at().as_second()
    ))
    .await;
    world.dial.forward("PT61S".parse().unwrap());
    keeper.round().await.unwrap();
    assert!(world.hold().await);
    run("DELETE FROM case_intents").await;
    // An event that was not read: the recording was sent again, and names a case that is open.
    let manifest = object_key::manifest(&demo(), world.id, 0);
    let (_, bytes) = read_document(&*world.store, &manifest, 1 << 20).await.unwrap().unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
    manifest.generation = 1;
    manifest.metadata.case_number = Some("2026-2".into());
    let new = NewObject {
        content_type: "application/json".into(),
        part_size: 0,
        lock_until: manifest.retention.locked_until,
    };
    let key = object_key::manifest(&demo(), world.id, 1);
    create(&*world.store, &key, &new, serde_json::to_vec(&manifest).unwrap().into()).await.unwrap();
    let message = RecordingStored {
        recording_id: world.id.to_string(),
        bureau: "demo".into(),
        generation: 1,
        ..Default::default()
    };
    let record =
        Record::new("x", prost::Message::encode_to_vec(&message)).header("ce_type", "io.caselock.recording.stored.v1");
    world.log.append(Topic::Events, 0, record).await.unwrap();
    world.dial.forward("PT61S".parse().unwrap());
    keeper.round().await.unwrap();
    assert!(world.hold().await);
    while keeper.round().await.unwrap() > 0 {}
    let version = oldest_version(&*world.store, &key).await.unwrap().unwrap().id;
    assert!(world.store.lock(&key, &version).await.unwrap().hold);
}

async fn nothing_is_lifted_while_an_entry_is_not_known(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    // The next entry can't be read, as if a newer version had written it: it may be a reopening.
    let id = CaseId::derive(&demo(), &number(NUMBER));
    let key = object_key::case_entry(&demo(), id, 3);
    let lock_until = world.dial.at() + 1.hour();
    let new = NewObject { content_type: "application/json".into(), part_size: 0, lock_until };
    create(&*world.store, &key, &new, "{}".into()).await.unwrap();
    let world = World { fresh: kind.fresh().await, ..world };
    rebuild(&world.cases()).await.unwrap();
    let keeper = world.keeper();
    keeper.round().await.unwrap();
    assert_eq!(world.lock().await, Lock { until: in_years(world.dial.at(), 10), hold: true });
    let mut named = Vec::new();
    let name = |line: &Line| {
        let unread = line.findings.iter().filter(|finding| finding.finding == What::UnreadEntry);
        named.extend(unread.map(|finding| finding.key.clone()));
    };
    audit(&world.cases(), &Rolling::default(), Duration::ZERO, name).await.unwrap();
    assert_eq!(named, [key.as_str()]);
    // Once it is known what stands there, all goes on.
    std::fs::remove_file(world.dir.path().join(&key)).unwrap();
    std::fs::remove_file(world.dir.path().join(".caselock/meta").join(format!("{key}.json"))).unwrap();
    world.append(noted()).await;
    while keeper.round().await.unwrap() > 0 {}
    assert!(!world.hold().await);
}

async fn what_fails_for_one_object_is_done_for_the_others(kind: Kind) {
    let world = World::new(kind).await;
    let store = Unfaithful::on(world.store.clone(), Lie::Manifests);
    let keeper = world.keeper_on(&(store.clone() as Arc<dyn Store>));
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    keeper.round().await.unwrap();
    let original = object_key::original(&demo(), world.id, 0);
    let version = oldest_version(&*world.store, &original).await.unwrap().unwrap().id;
    let ten_years = in_years(world.dial.at(), 10);
    assert_eq!(world.store.lock(&original, &version).await.unwrap(), Lock { until: ten_years, hold: true });
    assert!(world.lock().await.until < ten_years);
    store.be_honest();
    world.dial.forward("PT61S".parse().unwrap());
    while keeper.round().await.unwrap() > 0 {}
    assert_eq!(world.lock().await, Lock { until: ten_years, hold: false });
}

async fn a_case_opened_later_takes_what_was_named_for_it(kind: Kind) {
    let bench = Bench::embedded().await;
    let (first, second) = (uploaded(&bench, "a").await, uploaded(&bench, "b").await);
    let world = World::copy(kind, &Arc::new(bench), first).await;
    let keeper = world.keeper();
    // Another bureau's case of the same number is none of theirs.
    let other: BureauId = "other".parse().unwrap();
    let cases = world.cases();
    cases.append(&other, &number(NUMBER), BY, opened()).await.unwrap();
    cases.append(&other, &number(NUMBER), BY, closed(world.dial.at(), Some(10))).await.unwrap();
    while keeper.round().await.unwrap() > 0 {}
    assert!(world.hold().await);
    world.append(opened()).await;
    // One of them is evidence in a second case.
    let bound = CaseChange::Bound { recordings: vec![second] };
    cases.append(&demo(), &number("2026-2"), BY, opened()).await.unwrap();
    cases.append(&demo(), &number("2026-2"), BY, bound).await.unwrap();
    world.append(closed(world.dial.at(), Some(10))).await;
    while keeper.round().await.unwrap() > 0 {}
    assert_eq!(world.lock().await, Lock { until: in_years(world.dial.at(), 10), hold: false });
    let second = World { id: second, ..world };
    assert_eq!(second.lock().await, Lock { until: in_years(second.dial.at(), 10), hold: true });
}

#[tokio::test]
async fn one_registry_at_a_time_works_on_a_database() {
    let fresh = Kind::Postgres.fresh().await;
    let first = fresh.db.lead().await.unwrap();
    let other = Db::open(&*fresh.url).await.unwrap();
    let mut second = tokio::spawn(async move { other.lead().await });
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    drop(first);
    let second = second.await.unwrap().unwrap();
    // Whoever loses its connection is told so.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sqlx::query(end).fetch_one(fresh.db.pool()).await.unwrap();
    assert!(matches!(second.lost().await, RegistryError::LeadLost));
}

async fn what_is_not_as_the_rule_says_is_counted(kind: Kind) {
    let world = World::new(kind).await;
    let failing = async || -> i64 {
        let count = sqlx::query("SELECT COUNT(*) FROM locks WHERE failing_since IS NOT NULL");
        count.fetch_one(world.fresh.db.pool()).await.unwrap().get(0)
    };
    world.keeper().round().await.unwrap();
    assert_eq!(failing().await, 0);
    // What must be rolled forward, on a store that changes no lock of a manifest.
    let liar = Unfaithful::on(world.store.clone(), Lie::Manifests);
    let store: Arc<dyn Store> = liar.clone();
    world.dial.forward(4.months());
    world.keeper_on(&store).round().await.unwrap();
    assert_eq!(failing().await, 1);
    liar.be_honest();
    world.dial.forward(1.day());
    while world.keeper_on(&store).round().await.unwrap() > 0 {}
    assert_eq!(failing().await, 0);
    // A recording of which nothing lies there any more.
    std::fs::remove_dir_all(world.dir.path().join(object_key::prefix(&demo(), world.id, 0))).unwrap();
    world.dial.forward(2.months());
    world.keeper().round().await.unwrap();
    assert_eq!(failing().await, 1);
}
