//! Deadlines: reckoned by working days, told once when near and once when missed, extended by locked objects.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use caselock_domain::{
    deadline::Standing,
    fact::{Completed, Fact, FactKey, Subject},
    id::RecordingId,
    object_key,
    retention::end_of,
    time::Timestamp,
};
use caselock_e2e::{Death, Faults};
use caselock_log::append_fact;
use caselock_registry::{Awaited, Judge, Wish, rebuild};
use caselock_store::{ErrorKind, Lock, oldest_version};
use common::{
    Kind, dump, without_told,
    world::{World, demo},
};
use jiff::ToSpan;

on_both_databases!(
    the_regulations_vectors,
    near_and_missed_are_told_once_whatever_is_restarted,
    what_was_stored_in_time_is_never_missed,
    an_hour_of_uploads_without_it_leaves_nothing_wrong,
    a_database_made_anew_tells_nothing_twice,
    an_extension_is_a_locked_object_and_survives_every_death,
    a_newer_calendar_reckons_anew,
    what_a_newer_calendar_moves_is_told_of_anew,
    lists_agree_with_the_rule,
);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn find(world: &World, id: RecordingId) -> Awaited {
    Awaited::find(&world.fresh.db, &demo(), id).await.unwrap().unwrap()
}

async fn stored(world: &World, id: RecordingId, at: Timestamp) {
    let key = FactKey { recording: id, generation: 0, subject: Subject::Completed([1; 16]) };
    let completed = Completed { version: "v".into(), stored_at: at, lock_until: at, legal_hold: false, crc64nvme: 0 };
    append_fact(&*world.log, &key, Some(&Fact::Completed(completed))).await.unwrap();
}

async fn the_regulations_vectors(kind: Kind) {
    let world = World::new(kind).await;
    for (ends, due) in [
        ("2026-02-13", "2026-02-24"),
        ("2026-02-12", "2026-02-14"),
        ("2026-09-30", "2026-10-09"),
        ("2026-10-09", "2026-10-12"),
        ("2025-12-31", "2026-01-05"),
    ] {
        let id = world.announce(ends, at(&format!("{ends}T18:00:00+08:00"))).await;
        world.following(&world.store).catch_up().await.unwrap();
        let awaited = find(&world, id).await;
        assert_eq!(awaited.deadline.due, at(&format!("{due}T16:00:00Z")), "{ends}");
        assert!(!awaited.deadline.is_provisional);
    }
}

async fn near_and_missed_are_told_once_whatever_is_restarted(kind: Kind) {
    let world = World::new(kind).await;
    let ends = at("2026-10-09T10:00:00+08:00");
    world.dial.set(ends);
    let id = world.announce("never-comes", ends).await;
    world.following(&world.store).catch_up().await.unwrap();
    let due = find(&world, id).await.deadline.due;
    assert_eq!(due, at("2026-10-12T16:00:00Z"));
    // Ten times the registry begins anew across the deadline, and half of them it dies between telling and noting.
    for (step, moment) in [-20 * 3600, -11 * 3600, -3600, -1, 0, 60, 119, 120, 121, 7200].into_iter().enumerate() {
        world.dial.set(Timestamp::from_second(due.as_second() + moment).unwrap());
        let told = world.judge().judge().await.unwrap();
        assert_eq!(told, usize::from([1, 7].contains(&step)), "{moment} s from the deadline");
        let faults = Faults::at(0, if step % 2 == 0 { Death::Before } else { Death::After });
        let dying = world.outbox_on(&faults.log(world.log.clone()));
        tokio::select! {
            () = faults.died() => {}
            () = async { while dying.publish().await.unwrap() > 0 {} } => {}
        }
        world.publish().await;
    }
    for kind in ["deadline.near", "deadline.missed"] {
        let told = world.told(&id.to_string(), kind).await;
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

async fn what_was_stored_in_time_is_never_missed(kind: Kind) {
    let world = World::new(kind).await;
    let ends = at("2026-10-09T10:00:00+08:00");
    let [early, late, never] =
        [world.announce("early", ends).await, world.announce("late", ends).await, world.announce("never", ends).await];
    let due = at("2026-10-12T16:00:00Z");
    // The registry is away for all of it, and comes back an hour after the deadline.
    stored(&world, early, due).await;
    stored(&world, late, Timestamp::from_second(due.as_second() + 1).unwrap()).await;
    world.dial.set(Timestamp::from_second(due.as_second() + 3600).unwrap());
    world.following(&world.store).catch_up().await.unwrap();
    world.judge().judge().await.unwrap();
    world.publish().await;
    let standing = async |id| find(&world, id).await.standing(world.dial.at());
    assert_eq!(standing(early).await, Standing::OnTime);
    assert_eq!(standing(late).await, Standing::Late);
    assert_eq!(standing(never).await, Standing::Overdue);
    for (id, missed, flagged) in [(early, 0, 0), (late, 0, 1), (never, 1, 0)] {
        let id = id.to_string();
        assert_eq!(world.told(&id, "deadline.missed").await.len(), missed);
        assert_eq!(world.told(&id, "flag.raised").await.len(), flagged);
        assert_eq!(world.told(&id, "deadline.near").await.len(), 0, "it was not near any more");
    }
    // A view that is behind judges nothing: what was stored is read before.
    let behind = world.announce("behind", ends).await;
    world.following(&world.store).catch_up().await.unwrap();
    stored(&world, behind, due).await;
    assert_eq!(world.judge().judge().await.unwrap(), 0);
}

/// The registry is away for an hour in the middle of which a deadline passes; every minute something is announced, and most of
/// it is stored, some for a case. Then it comes back.
async fn an_hour_of_uploads_without_it_leaves_nothing_wrong(kind: Kind) {
    let world = World::new(kind).await;
    let (ends, due) = (at("2026-10-09T10:00:00+08:00"), at("2026-10-12T16:00:00Z"));
    let mut all = Vec::new();
    for minute in 0..60i64 {
        let now = Timestamp::from_second(due.as_second() + (minute - 30) * 60).unwrap();
        world.dial.set(now);
        let key = format!("minute-{minute}");
        let id = world.announce(&key, ends).await;
        let case = (minute % 3 == 0).then(|| "2026-7".to_owned());
        let comes = minute % 5 != 4;
        if comes {
            stored(&world, id, now).await;
            let same = world.stores_unseen(&key, |manifest| {
                manifest.metadata.scene_ended_at = Some(ends);
                manifest.metadata.case_number = case.clone();
                manifest.retention.legal_hold = case.is_some();
                manifest.retention.stored_at = now;
                manifest.retention.locked_until = end_of(now, &6.months()).unwrap();
            });
            assert_eq!(same.await, id);
        }
        all.push((id, now, comes, case.is_some()));
    }
    world.following(&world.store).catch_up().await.unwrap();
    let keeper = world.keeper();
    while keeper.round().await.unwrap() > 0 {}
    world.judge().judge().await.unwrap();
    world.publish().await;
    for (id, at, comes, is_for_case) in all {
        let standing = find(&world, id).await.standing(world.dial.at());
        let name = id.to_string();
        assert_eq!(world.told(&name, "deadline.missed").await.len(), usize::from(!comes), "{at}");
        if !comes {
            assert_eq!(standing, Standing::Overdue, "{at}");
            continue;
        }
        assert_eq!(standing, if at <= due { Standing::OnTime } else { Standing::Late }, "{at}");
        assert!(caselock_registry::Recording::find(&world.fresh.db, &demo(), id).await.unwrap().is_some());
        let key = object_key::manifest(&demo(), id, 0);
        let version = oldest_version(&*world.store, &key).await.unwrap().unwrap().id;
        let lock = world.store.lock(&key, &version).await.unwrap();
        let expected = Lock { until: Some(end_of(at, &6.months()).unwrap()), hold: is_for_case };
        assert_eq!(lock, expected, "{at}");
    }
}

async fn a_database_made_anew_tells_nothing_twice(kind: Kind) {
    let world = World::new(kind).await;
    let ends = at("2026-10-09T10:00:00+08:00");
    let [missed, coming] = [world.announce("missed", ends).await, world.announce("coming", ends).await];
    world.following(&world.store).catch_up().await.unwrap();
    world.dial.set(at("2026-10-12T16:02:00Z"));
    world.judge().judge().await.unwrap();
    world.publish().await;
    let before = world.told(&missed.to_string(), "").await;
    assert_eq!(before.len(), 1);
    // The database is lost. Another is built from the log alone, and judges before it has read what was told.
    let anew = World { fresh: kind.fresh().await, ..world };
    anew.following(&anew.store).catch_up().await.unwrap();
    anew.judge().judge().await.unwrap();
    anew.publish().await;
    assert_eq!(anew.told(&missed.to_string(), "").await, before);
    assert_eq!(anew.told(&coming.to_string(), "missed").await.len(), 1);
    // What comes after goes on counting.
    let wish = wish("2026-10-20T16:00:00Z");
    anew.cases().extend(&demo(), missed, &wish).await.unwrap();
    anew.publish().await;
    let after = anew.told(&missed.to_string(), "").await;
    assert_eq!(after.len(), 2);
    assert!(after[1].sequence > after[0].sequence, "{after:?}");
}

fn wish(until: &str) -> Wish {
    Wish { until: at(until), approver: "王局长".into(), reason: "洪水".into(), by: common::world::BY.into() }
}

async fn an_extension_is_a_locked_object_and_survives_every_death(kind: Kind) {
    for death in [Death::Before, Death::After] {
        for step in 0.. {
            let world = World::new(kind).await;
            let ends = at("2026-10-09T10:00:00+08:00");
            let id = world.announce("extended", ends).await;
            world.following(&world.store).catch_up().await.unwrap();
            let faults = Faults::at(step, death);
            let dying = world.cases_on(&faults.store(world.store.clone()));
            let died = tokio::select! {
                () = faults.died() => true,
                extended = async { dying.extend(&demo(), id, &wish("2026-10-20T16:00:00Z")).await } => {
                    extended.unwrap();
                    false
                }
            };
            // Asked for again, as whoever got no answer does.
            world.cases().extend(&demo(), id, &wish("2026-10-20T16:00:00Z")).await.unwrap();
            let awaited = find(&world, id).await;
            assert_eq!((awaited.extensions, awaited.deadline.last_moment()), (1, at("2026-10-20T16:00:00Z")));
            let keys = world.store.keys(&object_key::extensions(&demo(), id), None).await.unwrap().keys;
            assert_eq!(keys.len(), 1, "{death:?} {step}");
            let version = oldest_version(&*world.store, &keys[0]).await.unwrap().unwrap().id;
            let refused = world.store.delete_version(&keys[0], &version, true).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Locked);
            // Near the old deadline nothing is told; after the new one it is, with its own id.
            world.dial.set(at("2026-10-12T16:02:00Z"));
            assert_eq!(world.judge().judge().await.unwrap(), 0);
            world.dial.set(at("2026-10-20T16:02:00Z"));
            assert_eq!(world.judge().judge().await.unwrap(), 1);
            world.publish().await;
            assert_eq!(world.told(&id.to_string(), "deadline.extended").await.len(), 1);
            // The log alone tells of it.
            let known = dump(&world.fresh.db).await;
            let world = World { fresh: kind.fresh().await, ..world };
            world.following(&world.store).catch_up().await.unwrap();
            let awaited = find(&world, id).await;
            assert_eq!((awaited.extensions, awaited.deadline.last_moment()), (1, at("2026-10-20T16:00:00Z")));
            // From the bucket and the log the same is known, and nothing is told again.
            let anew = World { fresh: kind.fresh().await, ..world };
            rebuild(&anew.cases()).await.unwrap();
            anew.following(&anew.store).catch_up().await.unwrap();
            anew.judge().judge().await.unwrap();
            assert_eq!(without_told(dump(&anew.fresh.db).await), without_told(known));
            anew.publish().await;
            assert_eq!(anew.told(&id.to_string(), "deadline").await.len(), 2);
            if !died {
                assert!(step >= 1, "only {step} steps were seen");
                break;
            }
        }
    }
}

async fn a_newer_calendar_reckons_anew(kind: Kind) {
    let world = World::new(kind).await;
    let id = world.announce("provisional", at("2031-03-03T10:00:00+08:00")).await;
    world.following(&world.store).catch_up().await.unwrap();
    let before = find(&world, id).await.deadline;
    assert_eq!((before.due, before.is_provisional), (at("2031-03-05T16:00:00Z"), true));
    let calendar = r#"{"version": "2031-1", "source": "test", "years": {
        "2031": {"off": ["2031-03-04", "2031-03-05"], "working": ["2031-03-08"]}, "2032": {"off": [], "working": []}}}"#;
    let mut judge = world.judge();
    let mut rules = (*judge.rules).clone();
    rules.calendar = caselock_domain::calendar::Calendar::parse(calendar).unwrap();
    judge.rules = Arc::new(rules);
    judge.reckon_anew().await.unwrap();
    let after = find(&world, id).await.deadline;
    assert_eq!((after.due, after.is_provisional), (at("2031-03-07T16:00:00Z"), false));
}

/// Each deadline that a newer calendar makes of one is told of, once.
async fn what_a_newer_calendar_moves_is_told_of_anew(kind: Kind) {
    let world = World::new(kind).await;
    let id = world.announce("provisional", at("2031-03-03T10:00:00+08:00")).await.to_string();
    world.following(&world.store).catch_up().await.unwrap();
    let tell = async |judge: &Judge| {
        while judge.judge().await.unwrap() > 0 {}
        world.publish().await;
        (world.told(&id, "deadline.near").await.len(), world.told(&id, "deadline.missed").await.len())
    };
    let mut judge = world.judge();
    world.dial.set(at("2031-03-05T12:00:00Z"));
    assert_eq!(tell(&judge).await, (1, 0));
    world.dial.set(at("2031-03-06T12:00:00Z"));
    assert_eq!(tell(&judge).await, (1, 1));
    let calendar = r#"{"version": "2031-1", "source": "test", "years": {
        "2031": {"off": ["2031-03-04", "2031-03-05"], "working": []}, "2032": {"off": [], "working": []}}}"#;
    let mut rules = (*judge.rules).clone();
    rules.calendar = caselock_domain::calendar::Calendar::parse(calendar).unwrap();
    judge.rules = Arc::new(rules);
    judge.reckon_anew().await.unwrap();
    assert_eq!(tell(&judge).await, (1, 1));
    world.dial.set(at("2031-03-07T12:00:00Z"));
    assert_eq!(tell(&judge).await, (2, 1));
    world.dial.set(at("2031-03-07T16:03:00Z"));
    assert_eq!(tell(&judge).await, (2, 2));
    assert_eq!(tell(&judge).await, (2, 2));
}

/// The lists' conditions in SQL say what `Deadline::standing` says.
async fn lists_agree_with_the_rule(kind: Kind) {
    let world = World::new(kind).await;
    let due = at("2026-10-12T16:00:00Z");
    let second = |seconds: i64| Timestamp::from_second(due.as_second() + seconds).unwrap();
    let mut ids = Vec::new();
    for (index, (stored_at, extended)) in [None, Some(-1), Some(0), Some(1), Some(3600), Some(3601)]
        .into_iter()
        .flat_map(|stored| [(stored, false), (stored, true)])
        .enumerate()
    {
        let id = world.announce(&format!("r{index}"), at("2026-10-09T10:00:00+08:00")).await;
        world.following(&world.store).catch_up().await.unwrap();
        if extended {
            let wish = Wish { until: second(3600), ..wish("2026-10-20T16:00:00Z") };
            world.cases().extend(&demo(), id, &wish).await.unwrap();
        }
        if let Some(seconds) = stored_at {
            stored(&world, id, second(seconds)).await;
        }
        ids.push(id);
    }
    world.following(&world.store).catch_up().await.unwrap();
    for now in [-1, 0, 1, 3600, 3601].map(second) {
        for standing in Standing::ALL {
            let mut wanted = Vec::new();
            for id in &ids {
                let awaited = find(&world, *id).await;
                wanted.extend((awaited.standing(now) == standing).then_some(awaited.recording_id));
            }
            // Page by page, two at a time.
            let (mut found, mut after) = (Vec::new(), (i64::MIN, String::new()));
            loop {
                let page = Awaited::list(&world.fresh.db, &demo(), Some(standing), now, &after, 2).await.unwrap();
                let Some(last) = page.last() else { break };
                after = (last.deadline.last_moment().as_second(), last.recording_id.clone());
                found.extend(page.into_iter().map(|awaited| awaited.recording_id));
            }
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted, "{standing:?} at {now}");
        }
    }
}
