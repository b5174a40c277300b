//! What the registry tells of locks and cases: in order, once, after it was read back, and nothing of the past.
#![allow(clippy::unwrap_used)]

mod common;

use caselock_domain::{
    case::{CaseChange, CaseId},
    object_key,
};
use caselock_e2e::{Death, Faults};
use caselock_registry::rebuild;
use caselock_store::oldest_version;
use common::{
    Kind,
    telling::Told,
    world::{BY, World, closed, demo, number, opened},
};
use jiff::ToSpan;

on_both_databases!(
    a_cases_life_is_told_in_order_whatever_dies,
    what_protects_is_told_when_it_changes_and_not_otherwise,
    a_lock_that_drifts_is_told_and_repaired,
    a_database_from_the_bucket_tells_nothing_of_the_past,
);

fn kinds(told: &[Told]) -> Vec<&str> {
    let short = |told: &'_ Told| -> usize { told.kind.len() - ".v1".len() };
    told.iter().map(|told| &told.kind["io.caselock.".len()..short(told)]).collect()
}

async fn a_cases_life_is_told_in_order_whatever_dies(kind: Kind) {
    let world = World::new(kind).await;
    let case = CaseId::derive(&demo(), &number(common::world::NUMBER)).to_string();
    let note = CaseChange::Noted { reason: "停电".into(), author: "张三".into(), reviewer: "李四".into() };
    let reopened = CaseChange::Reopened { reason: "申诉".into() };
    for (step, change) in
        [opened(), note, CaseChange::Bound { recordings: vec![world.id] }, closed(world.dial.at(), Some(10)), reopened]
            .into_iter()
            .enumerate()
    {
        // It dies while the entry is written, or while its event is published.
        for death in [Death::Before, Death::After] {
            let (faults, bureau, name) = (Faults::at(step as i64 % 2, death), demo(), number(common::world::NUMBER));
            let dying = world.cases_on(&faults.store(world.store.clone()));
            tokio::select! {
                () = faults.died() => {}
                done = dying.append(&bureau, &name, BY, change.clone()) => drop(done.unwrap()),
            }
        }
        world.append(change).await;
        let faults = Faults::at(0, Death::After);
        let dying = world.outbox_on(&faults.log(world.log.clone()));
        tokio::select! {
            () = faults.died() => {}
            () = async { while dying.publish().await.unwrap() > 0 {} } => {}
        }
        world.publish().await;
    }
    let told = world.told(&case, "").await;
    let order = ["case.opened", "case.amended", "case.amended", "case.closed", "case.reopened"];
    assert_eq!(kinds(&told), order);
    assert!(told.is_sorted_by_key(|told| &told.sequence), "{told:?}");
}

async fn what_protects_is_told_when_it_changes_and_not_otherwise(kind: Kind) {
    let world = World::new(kind).await;
    let (keeper, id) = (world.keeper(), world.id.to_string());
    let settle = async || {
        while keeper.round().await.unwrap() > 0 {}
        world.publish().await;
        world.told(&id, "retention.changed").await.len()
    };
    // As the event of its storing said: held, for a case that nobody has opened.
    assert_eq!(settle().await, 0);
    world.append(opened()).await;
    assert_eq!(settle().await, 0);
    world.dial.forward(4.months());
    assert_eq!(settle().await, 1, "rolled forward");
    world.append(closed(world.dial.at(), Some(10))).await;
    assert_eq!(settle().await, 2, "another date, and no hold");
    world.dial.forward(2.months());
    assert_eq!(settle().await, 2);
    world.reopen().await;
    assert_eq!(settle().await, 3, "held again");
    // On a database that was made anew from the log, nothing of it is told again; what comes next is.
    let before = world.told(&id, "").await;
    let anew = World { fresh: kind.fresh().await, ..world };
    anew.following(&anew.store).catch_up().await.unwrap();
    while anew.keeper().round().await.unwrap() > 0 {}
    anew.publish().await;
    assert_eq!(anew.told(&id, "").await, before);
    anew.append(closed(anew.dial.at(), Some(30))).await;
    while anew.keeper().round().await.unwrap() > 0 {}
    anew.publish().await;
    assert_eq!(anew.told(&id, "retention.changed").await.len(), 4);
}

async fn a_lock_that_drifts_is_told_and_repaired(kind: Kind) {
    let world = World::new(kind).await;
    while world.keeper().round().await.unwrap() > 0 {}
    let key = object_key::original(&demo(), world.id, 0);
    let version = oldest_version(&*world.store, &key).await.unwrap().unwrap().id;
    // Somebody lifts the hold behind its back.
    world.store.set_hold(&key, &version, false).await.unwrap();
    world.dial.forward(31.days());
    // Whoever finds it dies before it is repaired: the next one tells the same.
    let faults = Faults::at(0, Death::Before);
    let dying = world.keeper_on(&faults.store(world.store.clone()));
    tokio::select! {
        () = faults.died() => {}
        _ = dying.round() => {}
    }
    world.publish().await;
    while world.keeper().round().await.unwrap() > 0 {}
    world.publish().await;
    assert!(world.hold().await);
    assert_eq!(world.told(&world.id.to_string(), "retention").await.len(), 1);
    // Lifted once more, it is told once more. What the registry lifts itself is no drift.
    world.store.set_hold(&key, &version, false).await.unwrap();
    world.dial.forward(31.days());
    while world.keeper().round().await.unwrap() > 0 {}
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    while world.keeper().round().await.unwrap() > 0 {}
    world.dial.forward(31.days());
    while world.keeper().round().await.unwrap() > 0 {}
    world.publish().await;
    assert_eq!(world.told(&world.id.to_string(), "retention.drifted").await.len(), 2);
    // An entry that is written for a closed case has less than the others, until the keeper has looked: no drift either.
    world.reopen().await;
    while world.keeper().round().await.unwrap() > 0 {}
    world.publish().await;
    let case = CaseId::derive(&demo(), &number(common::world::NUMBER)).to_string();
    assert_eq!(world.told(&case, "retention").await, []);
}

async fn a_database_from_the_bucket_tells_nothing_of_the_past(kind: Kind) {
    let world = World::new(kind).await;
    world.append(opened()).await;
    world.append(closed(world.dial.at(), Some(10))).await;
    while world.keeper().round().await.unwrap() > 0 {}
    // The log is lost as well: nobody knows what was told.
    let lost = caselock_e2e::Bench::embedded().await;
    let anew = World { fresh: kind.fresh().await, log: lost.log.clone(), bench: lost.into(), ..world };
    rebuild(&anew.cases()).await.unwrap();
    while anew.keeper().round().await.unwrap() > 0 {}
    anew.judge().judge().await.unwrap();
    anew.publish().await;
    assert_eq!(anew.told(&anew.id.to_string(), "").await, []);
    // What happens from now on is told.
    anew.reopen().await;
    while anew.keeper().round().await.unwrap() > 0 {}
    anew.publish().await;
    assert_eq!(kinds(&anew.told(&anew.id.to_string(), "").await), ["retention.changed"]);
}
