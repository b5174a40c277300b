//! A case's record: locked entries in order, whatever dies, comes twice or at once.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use caselock_domain::{
    case::{CaseChange, CaseError, CaseId, CaseNumber, Kept, PeriodStart, Status},
    id::BureauId,
    object_key,
    time::Timestamp,
};
use caselock_e2e::{Death, Faults};
use caselock_registry::{Cases, Db, RegistryError, rebuild};
use caselock_runtime::clock::system_clock;
use caselock_store::{ErrorKind, Store, fs::FsStore, oldest_version};
use common::{Kind, dump};
use jiff::{ToSpan, civil::date};
use tempfile::TempDir;

on_both_databases!(
    a_life_is_locked_entry_by_entry,
    what_does_not_follow_is_refused_and_writes_nothing,
    dying_between_any_two_steps_loses_nothing_and_repeats_nothing,
    many_hands_at_once_write_one_record,
);

const BY: &str = "spiffe://caselock.test/bureau/demo";

fn demo() -> BureauId {
    "demo".parse().unwrap()
}

fn number(text: &str) -> CaseNumber {
    text.to_owned().try_into().unwrap()
}

fn opened() -> CaseChange {
    CaseChange::Opened { party: None, cause: Some("无证行医".into()), full_recording_required: false }
}

fn closed() -> CaseChange {
    let on = date(2026, 3, 31);
    let kept = Kept::after(on, PeriodStart::ClosingDay, Some(&10.years()), Timestamp::UNIX_EPOCH).unwrap();
    CaseChange::Closed { class: "10y".into(), on, kept, rule: "ten years from the closing day".into() }
}

fn noted(reason: &str) -> CaseChange {
    CaseChange::Noted { reason: reason.into(), author: "张三".into(), reviewer: "李四".into() }
}

fn store() -> (Arc<dyn Store>, TempDir) {
    let dir = TempDir::new().unwrap();
    (FsStore::open(dir.path().join("store"), system_clock()).unwrap(), dir)
}

fn cases(db: &Db, store: &Arc<dyn Store>) -> Cases {
    Cases::new(db.clone(), store.clone(), system_clock(), common::world::rules(), 6.months())
}

async fn keys(store: &dyn Store) -> Vec<String> {
    store.keys("v1/", None).await.unwrap().keys
}

/// The bucket alone says what the database says.
async fn check_rebuilt(kind: Kind, cases: &Cases) {
    let rebuilt = kind.fresh().await;
    rebuild(&cases.with_db(rebuilt.db.clone())).await.unwrap();
    assert_eq!(dump(&rebuilt.db).await, dump(&cases.db).await);
}

async fn a_life_is_locked_entry_by_entry(kind: Kind) {
    let (fresh, (store, _dir)) = (kind.fresh().await, store());
    let cases = cases(&fresh.db, &store);
    let own = number("（2026）罚-17");
    let party = CaseChange::Amended { party: Some("某诊所".into()), cause: None, full_recording_required: None };
    let changes = [opened(), party, closed(), CaseChange::Reopened { reason: "申诉".into() }];
    for (seq, change) in (1..).zip(changes) {
        let case = cases.append(&demo(), &own, BY, change).await.unwrap();
        assert_eq!(case.seq, seq);
        let key = object_key::case_entry(&demo(), CaseId::derive(&demo(), &own), seq);
        let version = oldest_version(&*store, &key).await.unwrap().unwrap();
        assert!(store.lock(&key, &version.id).await.unwrap().hold);
        let deleted = store.delete_version(&key, &version.id, true).await.unwrap_err();
        assert_eq!(deleted.kind, ErrorKind::Locked);
    }
    let case = cases.find(&demo(), &number("(2026)罚-17")).await.unwrap().unwrap();
    assert_eq!((case.status, case.party.as_deref()), (Status::Open, Some("某诊所")));
    // Another bureau's case of the same number is another.
    let other: BureauId = "other".parse().unwrap();
    assert_eq!(cases.find(&other, &own).await.unwrap(), None);
    let theirs = cases.append(&other, &own, "spiffe://caselock.test/bureau/other", opened()).await.unwrap();
    assert_eq!((theirs.seq, cases.find(&demo(), &own).await.unwrap().unwrap().seq), (1, 4));
    check_rebuilt(kind, &cases).await;
}

async fn what_does_not_follow_is_refused_and_writes_nothing(kind: Kind) {
    let (fresh, (store, _dir)) = (kind.fresh().await, store());
    let cases = cases(&fresh.db, &store);
    let own = number("1");
    let refused = async |change| match cases.append(&demo(), &own, BY, change).await {
        Err(RegistryError::Case(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(closed()).await, CaseError::Opening);
    cases.append(&demo(), &own, BY, opened()).await.unwrap();
    let otherwise = CaseChange::Opened { party: None, cause: Some("other".into()), full_recording_required: false };
    assert_eq!(refused(otherwise).await, CaseError::Opening);
    assert_eq!(refused(CaseChange::Reopened { reason: String::new() }).await, CaseError::Open);
    cases.append(&demo(), &own, BY, closed()).await.unwrap();
    let CaseChange::Closed { on, kept, rule, .. } = closed() else { unreachable!() };
    assert_eq!(refused(CaseChange::Closed { class: "30y".into(), on, kept, rule }).await, CaseError::Closed);
    // The same once more is answered, and not written.
    for change in [opened(), closed()] {
        assert_eq!(cases.append(&demo(), &own, BY, change).await.unwrap().seq, 2);
    }
    assert_eq!(keys(&*store).await.len(), 2);
    check_rebuilt(kind, &cases).await;
}

async fn dying_between_any_two_steps_loses_nothing_and_repeats_nothing(kind: Kind) {
    for death in [Death::Before, Death::After] {
        for change in 0.. {
            let (fresh, (store, _dir)) = (kind.fresh().await, store());
            cases(&fresh.db, &store).append(&demo(), &number("1"), BY, opened()).await.unwrap();
            let faults = Faults::at(change, death);
            let dying = cases(&fresh.db, &faults.store(store.clone()));
            let own = number("1");
            let bureau = demo();
            let died = tokio::select! {
                () = faults.died() => true,
                done = dying.append(&bureau, &own, BY, closed()) => { done.unwrap(); false }
            };
            // The next process looks first; then the caller, who was not answered, comes again.
            let next = cases(&fresh.db, &store);
            next.recover().await.unwrap();
            let before = next.find(&bureau, &own).await.unwrap().unwrap();
            if before.seq == 1 {
                next.append(&bureau, &own, BY, closed()).await.unwrap();
            }
            let case = next.find(&bureau, &own).await.unwrap().unwrap();
            assert!(case.seq == 2 && matches!(case.status, Status::Closed(_)), "{death:?} {change}: {case:?}");
            assert_eq!(keys(&*store).await.len(), 2, "{death:?} {change}");
            let key = object_key::case_entry(&bureau, case.id(), 2);
            let version = oldest_version(&*store, &key).await.unwrap().unwrap();
            assert!(store.lock(&key, &version.id).await.unwrap().hold, "{death:?} {change}");
            let intents = sqlx::query("SELECT 1 FROM case_intents").fetch_all(fresh.db.pool()).await.unwrap();
            assert!(intents.is_empty(), "{death:?} {change}");
            check_rebuilt(kind, &next).await;
            if !died {
                assert!(change >= 2, "only {change} changes were seen");
                break;
            }
        }
    }
}

async fn many_hands_at_once_write_one_record(kind: Kind) {
    let (fresh, (store, _dir)) = (kind.fresh().await, store());
    let cases = cases(&fresh.db, &store);
    cases.append(&demo(), &number("1"), BY, opened()).await.unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|hand| {
            let cases = cases.clone();
            tokio::spawn(async move {
                let (bureau, own) = (demo(), number("1"));
                cases.append(&bureau, &own, &format!("{BY}-{hand}"), noted(&hand.to_string())).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(cases.find(&demo(), &number("1")).await.unwrap().unwrap().seq, 7);
    assert_eq!(keys(&*store).await.len(), 7);
    check_rebuilt(kind, &cases).await;
}
