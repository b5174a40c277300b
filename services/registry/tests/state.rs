//! One state, whichever way it was come by: events followed, replayed from zero, or the bucket alone.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use caselock_domain::{case::CaseChange, event::RecordingEvent, id::RecordingId, object_key, time::Timestamp};
use caselock_e2e::{Bench, Faults, Lie, PATIENCE, Unfaithful, random_file};
use caselock_log::{Record, Topic};
use caselock_proto::events::v1::RecordingVerified;
use caselock_registry::{Cases, Db, Following, Recording, RegistryError, Wish, rebuild};
use caselock_runtime::clock::system_clock;
use caselock_store::Store;
use common::{
    Kind, dump, without_told,
    world::{BY, NUMBER, World, closed, demo, noted, opened, rules},
};
use jiff::ToSpan;

on_both_databases!(
    events_and_bucket_give_the_same_state,
    events_and_bucket_tell_the_same_of_cases_and_deadlines,
    every_event_about_a_recording_is_read,
    an_event_that_comes_again_or_late_changes_nothing,
    a_rebuild_that_was_stopped_goes_on,
    a_rebuild_that_dies_anywhere_goes_on_and_loosens_nothing_meanwhile,
    what_cannot_be_read_is_passed_over,
    topics_of_another_name_are_read_from_their_beginning,
    topics_made_anew_under_their_name_are_refused,
);

/// A bench on which three recordings are stored.
async fn stored() -> Bench {
    stored_on(Bench::embedded().await).await
}

async fn stored_on(bench: Bench) -> Bench {
    let _archiver = bench.archiver(None);
    for (key, length) in [("a", 10), ("b", 9 << 20), ("c", 3000)] {
        let path = bench.dir.path().join(key);
        random_file(&path, length);
        bench.upload(&bench.client, &path, key).await.unwrap();
        let id = id(key);
        bench.wait_for("the end", id, |facts| facts.now().unwrap().finished_work().is_empty()).await;
    }
    bench
}

fn id(key: &str) -> RecordingId {
    RecordingId::derive(&"demo".parse().unwrap(), &key.parse().unwrap())
}

fn cases(bench: &Bench, db: &Db) -> Cases {
    Cases::new(db.clone(), bench.store.clone(), system_clock(), rules(), 6.months())
}

fn following(bench: &Bench, db: &Db) -> Following {
    Following::new(cases(bench, db), bench.log.clone())
}

async fn events_and_bucket_give_the_same_state(kind: Kind) {
    let bench = stored().await;
    let (followed, rebuilt) = (kind.fresh().await, kind.fresh().await);
    following(&bench, &followed.db).catch_up().await.unwrap();
    assert_eq!(rebuild(&cases(&bench, &rebuilt.db)).await.unwrap(), 3);
    let state = dump(&followed.db).await;
    assert_eq!(state.iter().filter(|line| line.starts_with("recordings")).count(), 3);
    assert_eq!(dump(&rebuilt.db).await, state);
    // Bucket first, then events: nothing new.
    following(&bench, &rebuilt.db).catch_up().await.unwrap();
    assert_eq!(dump(&rebuilt.db).await, state);
    let events = bench.log.name(Topic::Events);
    assert_eq!(rebuilt.db.positions(&events).await.unwrap(), followed.db.positions(&events).await.unwrap());
    // What a reopened database says.
    let again = Db::open(&*followed.url).await.unwrap();
    assert_eq!(dump(&again).await, state);
    let recording = Recording::find(&again, &"demo".parse().unwrap(), id("b")).await.unwrap().unwrap();
    assert_eq!((recording.size, recording.generation), (9 << 20, 0));
    assert_eq!(Recording::find(&again, &"other".parse().unwrap(), id("b")).await.unwrap(), None);
}

async fn events_and_bucket_tell_the_same_of_cases_and_deadlines(kind: Kind) {
    let world = World::new(kind).await;
    let recordings = vec![world.stores("evidence", |_| ()).await];
    let to_come = world.announce("to-come", world.dial.at()).await;
    world.following(&world.store).catch_up().await.unwrap();
    let amended = CaseChange::Amended { party: Some("某诊所".into()), cause: None, full_recording_required: None };
    let reopened = CaseChange::Reopened { reason: "申诉".into() };
    let closed = closed(world.dial.at(), Some(10));
    for change in [opened(), amended, noted(), CaseChange::Bound { recordings }, closed, reopened] {
        world.append(change).await;
    }
    for id in [to_come, world.id] {
        let until = world.dial.at() + 240.hours();
        let wish = Wish { until, approver: "王局长".into(), reason: "洪水".into(), by: BY.into() };
        world.cases().extend(&demo(), id, &wish).await.unwrap();
    }
    world.publish().await;
    let known = without_told(dump(&world.fresh.db).await);
    for table in ["case_entries", "evidence", "deadlines", "extensions"] {
        assert!(known.iter().any(|line| line.starts_with(table)), "no {table}");
    }
    let replayed = World { fresh: kind.fresh().await, ..world };
    replayed.following(&replayed.store).catch_up().await.unwrap();
    assert_eq!(without_told(dump(&replayed.fresh.db).await), known);
    // What was announced is in the log alone.
    let rebuilt = World { fresh: kind.fresh().await, ..replayed };
    rebuild(&rebuilt.cases()).await.unwrap();
    let in_bucket = |line: &String| !(line.starts_with("deadlines") && line.contains(&to_come.to_string()));
    let expected: Vec<_> = known.iter().filter(|line| in_bucket(line)).cloned().collect();
    assert_eq!(without_told(dump(&rebuilt.fresh.db).await), expected);
    rebuilt.following(&rebuilt.store).catch_up().await.unwrap();
    assert_eq!(without_told(dump(&rebuilt.fresh.db).await), known);
}

/// Digests are no texts: what one event has where another has a name is passed over.
async fn every_event_about_a_recording_is_read(kind: Kind) {
    let bench = stored().await;
    let fresh = kind.fresh().await;
    let (bureau, own) = ("demo".parse().unwrap(), id("a"));
    let message = RecordingVerified {
        recording_id: own.to_string(),
        bureau: "demo".into(),
        blake3: vec![0xff; 32].into(),
        ..Default::default()
    };
    let event = RecordingEvent::Verified(message).record(&bureau, own, 1, Timestamp::UNIX_EPOCH);
    let mut record = Record::new(event.key, event.payload);
    record.headers = event.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let offset = bench.log.append(Topic::Events, 0, record).await.unwrap();
    // Only this one is read.
    for partition in 0..bench.log.partitions(Topic::Events) {
        let end = bench.log.bounds(Topic::Events, partition).await.unwrap().end;
        let next = if partition == 0 { offset } else { end };
        let skip = sqlx::query(
            "INSERT INTO reads (topic, partition_number, next_offset) VALUES ('caselock.events.v1', $1, $2)",
        );
        skip.bind(i64::from(partition)).bind(next as i64).execute(fresh.db.pool()).await.unwrap();
    }
    following(&bench, &fresh.db).catch_up().await.unwrap();
    assert!(Recording::find(&fresh.db, &bureau, own).await.unwrap().is_some());
}

async fn an_event_that_comes_again_or_late_changes_nothing(kind: Kind) {
    let bench = stored().await;
    let fresh = kind.fresh().await;
    following(&bench, &fresh.db).catch_up().await.unwrap();
    let state = dump(&fresh.db).await;
    for partition in 0..bench.log.partitions(Topic::Events) {
        for (_, record) in bench.partition(Topic::Events, partition).await.into_iter().rev() {
            bench.log.append(Topic::Events, partition, record).await.unwrap();
        }
    }
    following(&bench, &fresh.db).catch_up().await.unwrap();
    assert_eq!(dump(&fresh.db).await, state);
}

async fn a_rebuild_that_was_stopped_goes_on(kind: Kind) {
    let bench = stored().await;
    let (whole, fresh) = (kind.fresh().await, kind.fresh().await);
    rebuild(&cases(&bench, &whole.db)).await.unwrap();
    // Stopped behind the first recording, as by a crash between two pages.
    let manifest =
        object_key::manifest(&"demo".parse().unwrap(), *[id("a"), id("b"), id("c")].iter().min().unwrap(), 0);
    sqlx::query("INSERT INTO rebuild (id, after_key) VALUES (1, $1)")
        .bind(&manifest)
        .execute(fresh.db.pool())
        .await
        .unwrap();
    assert!(fresh.db.is_rebuilding().await.unwrap());
    assert_eq!(rebuild(&cases(&bench, &fresh.db)).await.unwrap(), 2);
    assert!(!fresh.db.is_rebuilding().await.unwrap());
    // The next one is a whole one.
    assert_eq!(rebuild(&cases(&bench, &fresh.db)).await.unwrap(), 3);
    assert_eq!(dump(&fresh.db).await, dump(&whole.db).await);
}

/// Dead before any of its calls to the store: meanwhile nothing is loosened or removed, and what comes after goes on where it was.
async fn a_rebuild_that_dies_anywhere_goes_on_and_loosens_nothing_meanwhile(kind: Kind) {
    let world = World::new(kind).await;
    for key in ["b", "c"] {
        world.stores(key, |manifest| manifest.metadata.case_number = Some(NUMBER.into())).await;
    }
    world.append(opened()).await;
    world.append(noted()).await;
    // Its holds could go now, if all were known.
    world.append(closed(world.dial.at(), Some(10))).await;
    let store: Arc<dyn Store> = Unfaithful::on(world.store.clone(), Lie::Pages);
    let whole = kind.fresh().await;
    rebuild(&world.cases_of(&whole.db, &store)).await.unwrap();
    let (known, mut halves) = (dump(&whole.db).await, 0);
    // A database is made for each: on PostgreSQL that takes its time.
    for step in (0..).step_by(if matches!(kind, Kind::Sqlite) { 1 } else { 2 }) {
        let half = world.with(kind.fresh().await);
        let faults = Faults::at_call(step);
        let died = tokio::select! {
            () = faults.died() => true,
            done = async { rebuild(&half.cases_on(&faults.store(store.clone()))).await } => { done.unwrap(); false }
        };
        if !died {
            assert!(step > 20, "only {step} calls were seen");
            break;
        }
        assert!(half.fresh.db.is_rebuilding().await.unwrap(), "{step}");
        let found = dump(&half.fresh.db).await;
        halves += u32::from(!found.is_empty() && found != known);
        while half.keeper().round().await.unwrap() > 0 {}
        assert!(half.hold().await, "{step}");
        let asked = half.disposer().dispose(&demo(), half.id, BY, "x").await;
        assert!(matches!(asked, Err(RegistryError::Rebuilding)), "{step}: {asked:?}");
        rebuild(&half.cases_on(&store)).await.unwrap();
        assert_eq!(dump(&half.fresh.db).await, known, "{step}");
    }
    assert!(halves > 2, "{halves} databases that knew something and not all");
    let world = World { fresh: whole, ..world };
    while world.keeper().round().await.unwrap() > 0 {}
    assert!(!world.hold().await);
}

async fn what_cannot_be_read_is_passed_over(kind: Kind) {
    let bench = stored().await;
    let fresh = kind.fresh().await;
    let partition = 0;
    bench.log.append(Topic::Events, partition, Record::new("noise", "noise")).await.unwrap();
    let nonsense = Record::new("noise", "\u{fffd}").header("ce_type", "io.caselock.recording.stored.v1");
    bench.log.append(Topic::Events, partition, nonsense).await.unwrap();
    // An event of a recording whose documents are not there.
    let (bureau, unknown) = ("demo".parse().unwrap(), id("unknown"));
    let message = RecordingVerified { recording_id: unknown.to_string(), bureau: "demo".into(), ..Default::default() };
    let event = RecordingEvent::Verified(message).record(&bureau, unknown, 0, Timestamp::UNIX_EPOCH);
    let mut record = Record::new(event.key, event.payload);
    record.headers = event.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    bench.log.append(Topic::Events, partition, record).await.unwrap();
    following(&bench, &fresh.db).catch_up().await.unwrap();
    assert_eq!(dump(&fresh.db).await.iter().filter(|line| line.starts_with("recordings")).count(), 3);
    let end = bench.log.bounds(Topic::Events, partition).await.unwrap().end;
    assert_eq!(fresh.db.positions(&bench.log.name(Topic::Events)).await.unwrap()[&partition], end);
}

/// The topics were made anew under other names: how far the old ones were read says nothing of them.
async fn topics_of_another_name_are_read_from_their_beginning(kind: Kind) {
    let fresh = kind.fresh().await;
    let old = Bench::distributed().await;
    for topic in [Topic::Events, Topic::Uploads] {
        for partition in 0..old.log.partitions(topic) {
            for _ in 0..50 {
                old.log.append(topic, partition, Record::new("noise", "noise")).await.unwrap();
            }
        }
    }
    following(&old, &fresh.db).catch_up().await.unwrap();
    let new = stored_on(Bench::distributed().await).await;
    following(&new, &fresh.db).catch_up().await.unwrap();
    assert_eq!(dump(&fresh.db).await.iter().filter(|line| line.starts_with("recordings")).count(), 3);
    let ends = new.log.end(Topic::Events, 0).await.unwrap();
    let read = fresh.db.positions(&new.log.name(Topic::Events)).await.unwrap();
    assert_eq!(read.get(&0).copied().unwrap_or_default(), ends);
}

/// The topics were made anew under their own names: what is written where the old ones were read would be passed over in silence.
async fn topics_made_anew_under_their_name_are_refused(kind: Kind) {
    let fresh = kind.fresh().await;
    let (old, anew) = (Bench::embedded().await, Bench::embedded().await);
    for (bench, records) in [(&old, 3), (&anew, 2)] {
        for _ in 0..records {
            bench.log.append(Topic::Events, 1, Record::new("noise", "noise")).await.unwrap();
        }
    }
    following(&old, &fresh.db).catch_up().await.unwrap();
    let state = dump(&fresh.db).await;
    let following = following(&anew, &fresh.db);
    let refused = following.catch_up().await.unwrap_err();
    let RegistryError::AnotherLog { topic, partition, known, end } = &refused else { panic!("{refused}") };
    assert_eq!((*topic, *partition, *known, *end), (Topic::Events, 1, 3, 2));
    assert!(!refused.is_retryable(), "{refused}");
    // That it grows beyond that place makes it no other.
    for _ in 0..7 {
        anew.log.append(Topic::Events, 1, Record::new("noise", "noise")).await.unwrap();
    }
    assert!(matches!(following.catch_up().await, Err(RegistryError::AnotherLog { .. })));
    assert_eq!(dump(&fresh.db).await, state);
}

/// The password is changed in the database and in the file: new connections are made with it. Another database in the file is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_may_be_changed_while_the_registry_runs() {
    let fresh = Kind::Postgres.fresh().await;
    let owner = fresh.db.pool();
    // As unique as the database.
    let name = format!("r_{}", fresh.url.rsplit('/').next().unwrap().replace('-', "_"));
    let run = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(owner).await.unwrap();
    };
    run(format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'one'")).await;
    let (_, address) = fresh.url.split_once('@').unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |url: String| std::fs::write(file.path(), url).unwrap();
    write(format!("postgres://{name}:one@{address}"));
    let db = Db::open(format!("file:{}", file.path().display())).await.unwrap();

    run(format!("ALTER ROLE {name} PASSWORD 'two'")).await;
    write(format!("postgres://{name}:two@{address}"));
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")).await;
    let answered = async {
        while sqlx::query("SELECT 1").execute(db.pool()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer to the new password");
}
