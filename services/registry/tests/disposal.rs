//! Disposal: only what has run out, only by order, finished whatever dies, and never of what is evidence by then.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    case::{CaseChange, CaseId},
    disposal::Disposal,
    fact::FactKey,
    id::{BureauId, RecordingId},
    object_key,
    retention::rule::Rolling,
    state::Phase,
    time::Timestamp,
};
use caselock_e2e::{Bench, Death, Faults};
use caselock_registry::{Finding, Kind as What, Refused, RegistryError, audit, rebuild};
use caselock_store::{ErrorKind, oldest_version, read_document};
use common::{
    Kind, dump,
    world::{BY, NUMBER, World, closed, demo, number, opened, uploaded},
};
use jiff::ToSpan;

on_both_databases!(
    only_what_has_run_out_goes_and_a_record_stays,
    what_was_locked_for_longer_goes_when_that_is_over,
    killed_between_any_two_steps_it_ends_the_same,
    a_binding_and_a_disposal_never_both_happen,
    a_reopening_after_it_was_begun_stops_nothing_and_holds_nothing,
    what_is_stored_again_is_another_generation,
);

/// A world whose recording's case was closed ten years ago.
async fn run_out(kind: Kind, bench: &Arc<Bench>) -> World {
    let world = World::copy(kind, bench, bench.known_id()).await;
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    while world.keeper().round().await.unwrap() > 0 {}
    world.dial.forward(10.years());
    world.dial.forward(1.day());
    while world.keeper().round().await.unwrap() > 0 {}
    world
}

trait Known {
    fn known_id(&self) -> RecordingId;
}

impl Known for Bench {
    fn known_id(&self) -> RecordingId {
        RecordingId::derive(&demo(), &"a".parse().unwrap())
    }
}

async fn bench() -> Arc<Bench> {
    let bench = Bench::embedded().await;
    uploaded(&bench, "a").await;
    Arc::new(bench)
}

async fn dispose(world: &World) -> Result<Result<String, Refused>, RegistryError> {
    world.disposer().dispose(&demo(), world.id, BY, "保管期满").await
}

/// Nothing of the recording is left but the record of its disposal, which is held.
async fn is_gone(world: &World) -> Disposal {
    let keys = world.store.keys(&object_key::recording(&demo(), world.id), None).await.unwrap().keys;
    let record = object_key::disposal(&demo(), world.id, 0);
    assert_eq!(keys, std::slice::from_ref(&record));
    let (version, bytes) = read_document(&*world.store, &record, 1 << 20).await.unwrap().unwrap();
    assert!(world.store.lock(&record, &version).await.unwrap().hold);
    assert_eq!(world.store.delete_version(&record, &version, true).await.unwrap_err().kind, ErrorKind::Locked);
    let facts = world.bench.facts(world.id).await;
    assert_eq!((facts.phase(), facts.now().unwrap().receipt()), (Some(Phase::Disposed), None));
    serde_json::from_slice(&bytes).unwrap()
}

async fn only_what_has_run_out_goes_and_a_record_stays(kind: Kind) {
    let bench = bench().await;
    let world = World::copy(kind, &bench, bench.known_id()).await;
    let refused = async |world: &World, why: &str| match dispose(world).await.unwrap() {
        Err(Refused::Retained(said)) => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?}"),
    };
    let list = async |world: &World| {
        let found = world.disposer().list(&demo(), &(i64::MIN, String::new()), 10).await;
        found.unwrap().into_iter().map(|found| (found.recording.id, found.follows)).collect::<Vec<_>>()
    };
    while world.keeper().round().await.unwrap() > 0 {}
    refused(&world, "held").await;
    world.append(opened()).await;
    refused(&world, "open_case").await;
    world.append(closed(world.dial.at(), Some(10))).await;
    while world.keeper().round().await.unwrap() > 0 {}
    refused(&world, "closed_case 2026-1").await;
    // Six months are over long before the ten years are.
    world.dial.forward(9.years());
    while world.keeper().round().await.unwrap() > 0 {}
    refused(&world, "closed_case 2026-1").await;
    assert_eq!(list(&world).await, []);
    world.dial.forward(1.year());
    world.dial.forward(1.day());
    while world.keeper().round().await.unwrap() > 0 {}
    assert_eq!(list(&world).await, [(world.id.to_string(), "closed_case".to_owned())]);
    // Another bureau has no such recording; nothing is judged while a rebuild is under way.
    let other: BureauId = "other".parse().unwrap();
    let other = world.disposer().dispose(&other, world.id, BY, "x").await.unwrap();
    assert_eq!(other, Err(Refused::Unknown));
    let run = async |sql: &str| {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(world.fresh.db.pool()).await.unwrap();
    };
    run("INSERT INTO rebuild (id, after_key) VALUES (1, '')").await;
    assert!(matches!(dispose(&world).await, Err(RegistryError::Rebuilding)));
    let listed = world.disposer().list(&demo(), &(i64::MIN, String::new()), 10).await;
    assert!(matches!(listed, Err(RegistryError::Rebuilding)));
    run("DELETE FROM rebuild").await;
    // An entry that may have been written, and is not known.
    run(&format!(
        "INSERT INTO case_intents (case_id, seq, bureau, number, at) VALUES ('x', 1, 'demo', '9', {})",
        world.dial.at().as_second()
    ))
    .await;
    refused(&world, "").await;
    assert_eq!(list(&world).await, []);
    run("DELETE FROM case_intents").await;

    let key = dispose(&world).await.unwrap().unwrap();
    assert_eq!(key, object_key::disposal(&demo(), world.id, 0));
    let record = is_gone(&world).await;
    assert_eq!((record.by.as_str(), record.reason.as_str(), record.because.as_str()), (BY, "保管期满", "closed_case"));
    assert!(record.objects.len() >= 2 && record.objects.iter().any(|object| object.version == record.version));
    // Asked again it is answered again, and told once.
    assert_eq!(dispose(&world).await.unwrap().unwrap(), key);
    world.publish().await;
    assert_eq!(world.told(&world.id.to_string(), "recording.disposed").await.len(), 1);
    assert_eq!(list(&world).await, []);
    let (cases, rolling) = (world.cases(), Rolling::default());
    let summary =
        audit(&cases, &rolling, Duration::ZERO, |line| assert!(line.findings.is_empty(), "{line:?}")).await.unwrap();
    assert_eq!(summary.with_findings, 0);
    // A record whose hold was lifted behind its back is found, and held again.
    let version = oldest_version(&*world.store, &key).await.unwrap().unwrap().id;
    world.store.set_hold(&key, &version, false).await.unwrap();
    let mut found = Vec::new();
    audit(&cases, &rolling, Duration::ZERO, |line| found.extend(line.findings.clone())).await.unwrap();
    assert_eq!(found, [Finding { finding: What::MissingHold, key: key.clone() }]);
    world.disposer().hold_again().await.unwrap();
    is_gone(&world).await;
    // The bucket alone, and the log alone, say the same.
    let known = dump(&world.fresh.db).await;
    let rebuilt = World { fresh: kind.fresh().await, ..world };
    rebuild(&rebuilt.cases()).await.unwrap();
    assert_eq!(dump(&rebuilt.fresh.db).await, known);
    rebuilt.publish().await;
    assert_eq!(rebuilt.told(&rebuilt.id.to_string(), "recording.disposed").await.len(), 1);
    let bare = |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with("disposals")).collect::<Vec<_>>();
    let replayed = World { fresh: kind.fresh().await, ..rebuilt };
    replayed.following(&replayed.store).catch_up().await.unwrap();
    replayed.disposer().finish_all(None).await.unwrap();
    assert_eq!(bare(dump(&replayed.fresh.db).await), bare(known));
}

/// Closed as a shorter class after it was reopened: the lock that was set before stands, and it is removed when that is over.
async fn what_was_locked_for_longer_goes_when_that_is_over(kind: Kind) {
    let bench = bench().await;
    let world = World::copy(kind, &bench, bench.known_id()).await;
    let settle = async || while world.keeper().round().await.unwrap() > 0 {};
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    settle().await;
    world.reopen().await;
    world.append(closed(world.dial.at(), Some(2))).await;
    settle().await;
    world.dial.forward(3.years());
    settle().await;
    let refused = dispose(&world).await.unwrap();
    assert!(matches!(&refused, Err(Refused::Retained(why)) if why.contains("earlier_lock")), "{refused:?}");
    world.dial.forward(7.years());
    world.dial.forward(1.day());
    settle().await;
    let listed = world.disposer().list(&demo(), &(i64::MIN, String::new()), 10).await.unwrap();
    assert_eq!(listed.into_iter().map(|found| found.follows).collect::<Vec<_>>(), ["earlier_lock"]);
    dispose(&world).await.unwrap().unwrap();
    assert_eq!(is_gone(&world).await.because, "earlier_lock");
    // That its footage has gone is no news of a case that is closed.
    world.dial.forward(2.months());
    settle().await;
    assert_eq!(world.flags(&CaseId::derive(&demo(), &number(NUMBER)).to_string()).await, []);
}

async fn killed_between_any_two_steps_it_ends_the_same(kind: Kind) {
    for death in [Death::Before, Death::After] {
        for step in 0.. {
            let world = run_out(kind, &bench().await).await;
            let (faults, bureau) = (Faults::at(step, death), demo());
            let dying = world.disposer_on(&faults.log(world.log.clone()), &faults.store(world.store.clone()));
            let died = tokio::select! {
                () = faults.died() => true,
                done = dying.dispose(&bureau, world.id, BY, "保管期满") => {
                    done.unwrap().unwrap();
                    false
                }
            };
            // Whoever comes next finishes what was begun, without being asked.
            world.following(&world.store).catch_up().await.unwrap();
            world.disposer().finish_all(None).await.unwrap();
            dispose(&world).await.unwrap().unwrap();
            is_gone(&world).await;
            world.publish().await;
            assert_eq!(world.told(&world.id.to_string(), "recording.disposed").await.len(), 1, "{death:?} {step}");
            if !died {
                assert!(step >= 4, "only {step} steps were seen");
                break;
            }
        }
    }
}

async fn a_binding_and_a_disposal_never_both_happen(kind: Kind) {
    let (mut bindings, mut disposals) = (0, 0);
    // First one after the other, either way round; then both at once.
    for round in 0..12u64 {
        let world = run_out(kind, &bench().await).await;
        let name = number("2036-9");
        let cases = world.cases();
        cases.append(&demo(), &name, BY, opened()).await.unwrap();
        let bind = async {
            cases.append(&demo(), &name, BY, CaseChange::Bound { recordings: vec![world.id] }).await?;
            world.keeper().settle(vec![world.id.to_string()]).await
        };
        let (bound, disposed) = match round {
            0 => (bind.await, dispose(&world).await),
            1 => {
                let disposed = dispose(&world).await;
                (bind.await, disposed)
            }
            _ => {
                let later = async {
                    tokio::time::sleep(Duration::from_micros((round - 2) * 1500)).await;
                    bind.await
                };
                tokio::join!(later, dispose(&world))
            }
        };
        match (bound, disposed) {
            (Ok(()), Ok(Err(Refused::Retained(_)))) => {
                assert!(world.hold().await);
                bindings += 1;
            }
            (Err(RegistryError::Disposed(_)), Ok(Ok(_))) => {
                is_gone(&world).await;
                disposals += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(bindings > 0 && disposals > 0, "{bindings} bindings, {disposals} disposals");
}

/// The disposal is begun, and dies before it has removed anything; then the case is reopened. What is begun is finished.
async fn a_reopening_after_it_was_begun_stops_nothing_and_holds_nothing(kind: Kind) {
    for step in 0.. {
        let world = run_out(kind, &bench().await).await;
        let (faults, bureau) = (Faults::at(step, Death::Before), demo());
        let dying = world.disposer_on(&faults.log(world.log.clone()), &faults.store(world.store.clone()));
        tokio::select! {
            () = faults.died() => {}
            done = dying.dispose(&bureau, world.id, BY, "保管期满") => {
                done.unwrap().unwrap();
                assert!(step >= 4, "only {step} steps were seen");
                break;
            }
        }
        world.reopen().await;
        world.keeper().settle(vec![world.id.to_string()]).await.unwrap();
        while world.keeper().round().await.unwrap() > 0 {}
        world.disposer().finish_all(None).await.unwrap();
        is_gone(&world).await;
    }
}

async fn what_is_stored_again_is_another_generation(kind: Kind) {
    let bench = bench().await;
    for forgotten in [false, true] {
        let world = run_out(kind, &bench).await;
        dispose(&world).await.unwrap().unwrap();
        if forgotten {
            // As long after: nothing of it is left in the log.
            let facts = bench.facts(world.id).await;
            let now = (facts.current(), facts.now().unwrap());
            for (generation, facts) in facts.others().chain([now]) {
                for subject in facts.everything() {
                    let key = FactKey { recording: world.id, generation, subject };
                    caselock_log::append_fact(&*bench.log, &key, None).await.unwrap();
                }
            }
        }
        // The archiver's clock is the system's, and so is the store's again.
        world.dial.set(Timestamp::now());
        let archiver = bench.archiver_on(bench.log.clone(), world.store.clone());
        let path = bench.dir.path().join("a");
        let again = bench.upload(&bench.client, &path, "a").await.unwrap();
        assert_eq!(again.payload.generation, 1, "forgotten: {forgotten}");
        let original = object_key::original(&demo(), world.id, 1);
        assert!(oldest_version(&*world.store, &original).await.unwrap().is_some());
        bench.wait_for("the end", world.id, |facts| facts.now().unwrap().finished_work().is_empty()).await;
        drop(archiver);
        // An old order, come late, concerns nothing of it.
        world.following(&world.store).catch_up().await.unwrap();
        world.disposer().finish_all(None).await.unwrap();
        assert!(oldest_version(&*world.store, &original).await.unwrap().is_some());
        assert_eq!(bench.facts(world.id).await.phase(), Some(Phase::Stored));
        match dispose(&world).await.unwrap() {
            Err(Refused::Retained(_)) => {}
            other => panic!("{other:?}"),
        }
        // For the next round it is as if it were gone.
        let facts = bench.facts(world.id).await;
        let now = (facts.current(), facts.now().unwrap());
        let everything: Vec<_> =
            facts.others().chain([now]).flat_map(|(g, f)| f.everything().into_iter().map(move |s| (g, s))).collect();
        for (generation, subject) in everything {
            let key = FactKey { recording: world.id, generation, subject };
            caselock_log::append_fact(&*bench.log, &key, None).await.unwrap();
        }
    }
}
