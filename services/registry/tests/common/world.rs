//! A stored recording, a store whose clock is set, and a registry that knows both.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use caselock_domain::{
    case::{CaseChange, CaseNumber, Kept, PeriodStart},
    id::{BureauId, RecordingId},
    object_key,
    retention::{end_of, rule::Rolling},
    time::{Clock, Timestamp, day_of},
};
use caselock_e2e::{Bench, random_file};
use caselock_log::Log;
use caselock_registry::{Cases, Db, Following, Keeper, Rules};
use caselock_store::{ErrorKind, Lock, Store, fs::FsStore, oldest_version};
use jiff::{Span, ToSpan};
use tempfile::TempDir;

use super::{Fresh, Kind};

pub const BY: &str = "spiffe://caselock.test/bureau/demo";
pub const NUMBER: &str = "2026-1";

/// A clock that is set.
#[derive(Clone)]
pub struct Dial(Arc<AtomicI64>);

impl Dial {
    pub fn now() -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::now().as_second())))
    }

    pub fn at(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_second(), Ordering::SeqCst);
    }

    pub fn forward(&self, span: Span) {
        let at = end_of(self.at(), &span).unwrap();
        self.0.store(at.as_second(), Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let dial = self.clone();
        Arc::new(move || dial.at())
    }
}

/// A stored recording, and a registry that knows it.
pub struct World {
    pub store: Arc<dyn Store>,
    pub log: Arc<dyn Log>,
    pub fresh: Fresh,
    pub dial: Dial,
    pub id: RecordingId,
    pub bench: Arc<Bench>,
    pub dir: Arc<TempDir>,
}

/// A recording that was uploaded for the case [`NUMBER`].
pub async fn uploaded(bench: &Bench, key: &str) -> RecordingId {
    let archiver = bench.archiver(None);
    let path = bench.dir.path().join(key);
    random_file(&path, 3000);
    bench.upload(&bench.client, &path, key).await.unwrap();
    let id = RecordingId::derive(&demo(), &key.parse().unwrap());
    bench.wait_for("the end", id, |facts| facts.now().unwrap().finished_work().is_empty()).await;
    drop(archiver);
    id
}

impl World {
    pub async fn new(kind: Kind) -> Self {
        let bench = Bench::embedded().await;
        let id = uploaded(&bench, "a").await;
        Self::copy(kind, &Arc::new(bench), id).await
    }

    /// With a copy of the bench's store, whose clock is set.
    pub async fn copy(kind: Kind, bench: &Arc<Bench>, id: RecordingId) -> Self {
        let (dial, dir) = (Dial::now(), TempDir::new().unwrap());
        copy(&bench.dir.path().join("store"), dir.path());
        let store = FsStore::open(dir.path().to_owned(), dial.clock()).unwrap();
        let fresh = kind.fresh().await;
        let world = Self { store, log: bench.log.clone(), fresh, dial, id, bench: bench.clone(), dir: Arc::new(dir) };
        world.following(&world.store).catch_up().await.unwrap();
        world
    }

    pub fn following(&self, store: &Arc<dyn Store>) -> Following {
        Following::new(self.cases_on(store), self.log.clone())
    }

    pub fn cases(&self) -> Cases {
        self.cases_on(&self.store)
    }

    pub fn cases_on(&self, store: &Arc<dyn Store>) -> Cases {
        self.cases_of(&self.fresh.db, store)
    }

    pub fn cases_of(&self, db: &Db, store: &Arc<dyn Store>) -> Cases {
        Cases::new(db.clone(), store.clone(), self.dial.clock(), rules(), 6.months())
    }

    /// The same store and log, with another database.
    pub fn with(&self, fresh: Fresh) -> Self {
        let (store, log, bench, dir) = (self.store.clone(), self.log.clone(), self.bench.clone(), self.dir.clone());
        Self { store, log, fresh, dial: self.dial.clone(), id: self.id, bench, dir }
    }

    pub fn keeper(&self) -> Keeper {
        self.keeper_on(&self.store)
    }

    pub fn keeper_on(&self, store: &Arc<dyn Store>) -> Keeper {
        Keeper::new(self.cases_on(store), Arc::new(self.following(store)), Rolling::default(), 1_000_000)
    }

    pub async fn append(&self, change: CaseChange) {
        self.cases().append(&demo(), &number(NUMBER), BY, change).await.unwrap();
    }

    pub async fn reopen(&self) {
        self.append(CaseChange::Reopened { reason: "申诉".into() }).await;
    }

    /// What protects the recording least of all that lies beside it, checked by deleting it.
    pub async fn lock(&self) -> Lock {
        let mut least: Option<Lock> = None;
        for key in self.store.keys(&object_key::prefix(&demo(), self.id, 0), None).await.unwrap().keys {
            let version = oldest_version(&*self.store, &key).await.unwrap().unwrap().id;
            let lock = self.store.lock(&key, &version).await.unwrap();
            if lock.hold || lock.until > Some(self.dial.at()) {
                for bypass in [false, true] {
                    let refused = self.store.delete_version(&key, &version, bypass).await.unwrap_err();
                    assert_eq!(refused.kind, ErrorKind::Locked, "{key} {lock:?}");
                }
            }
            least = Some(
                least.map_or(lock, |least| Lock { until: least.until.min(lock.until), hold: least.hold && lock.hold }),
            );
        }
        least.unwrap()
    }

    pub async fn hold(&self) -> bool {
        self.lock().await.hold
    }
}

pub fn rules() -> Arc<Rules> {
    Arc::new(Rules::packaged().unwrap())
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub fn demo() -> BureauId {
    "demo".parse().unwrap()
}

pub fn number(text: &str) -> CaseNumber {
    text.to_owned().try_into().unwrap()
}

pub fn opened() -> CaseChange {
    CaseChange::Opened { party: None, cause: None, full_recording_required: false }
}

pub fn noted() -> CaseChange {
    CaseChange::Noted { reason: "停电".into(), author: "李四".into(), reviewer: "王局长".into() }
}

pub fn closed(now: Timestamp, years: Option<i64>) -> CaseChange {
    let period = years.map(|years| years.years());
    let kept = Kept::after(day_of(now), PeriodStart::ClosingDay, period.as_ref(), now).unwrap();
    CaseChange::Closed { class: "class".into(), on: day_of(now), kept, rule: "the class's period".into() }
}
