//! Brings what lies in the store to what the rule says, and reads it back: first what protects more, and only then, and only
//! on a view that is complete, what protects less.

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    case::Status,
    event::RegistryEvent,
    flag::Flag,
    retention::{
        is_in_clock_units,
        rule::{Bond, Keeping, Rolling, keeping},
    },
    time::{Timestamp, shanghai, to_proto},
};
use caselock_proto::events::v1::RetentionDrifted;
use caselock_store::{Lock, Store, ensure_locked};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, ToSpan};
use tokio::{
    sync::{Mutex, Notify},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use sqlx::Row;

use crate::{
    Cases, Following, RegistryError, attention,
    locks::{Subject, tell_change, words},
    metrics::RegistryMetrics,
    moment,
    objects::{self, Object},
    outbox::{Telling, tell},
    turns::Turns,
};

/// A request that its sender gave up may still take effect for so long: S3 refuses what was signed more than fifteen minutes
/// ago.
pub const LATE: SignedDuration = SignedDuration::from_mins(20);
/// How long until what failed is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);
/// How long until what needs nothing is compared with the store once more.
const COMPARED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Subjects looked for at once, and worked on at once.
const ROUND: i64 = 200;
const AT_ONCE: usize = 8;
/// How often a subject is read again that changes while it is worked on.
const CHANGES: u32 = 10;
/// How often it is looked whether something is due.
const POLL: Duration = Duration::from_secs(1);

/// The one writer of locks.
#[derive(Clone)]
pub struct Keeper {
    cases: Cases,
    following: Arc<Following>,
    rolling: Rolling,
    turns: Turns,
    pace: Arc<Mutex<Interval>>,
    wake: Arc<Notify>,
    metrics: RegistryMetrics,
}

/// How a subject stands to the rule, now that dates and holds were set that were missing.
enum Looked {
    /// As it must be.
    Right,
    /// A hold is on that the rule does not want.
    HeldWithoutNeed,
    /// There is nothing the rule could be asked about.
    Unknown,
}

/// A subject as it was read back.
struct Found {
    keeping: Keeping,
    objects: Vec<Object>,
}

impl Found {
    /// The least date of all its objects; `None` where there is no object, or one without a lock.
    fn until(&self) -> Option<Timestamp> {
        self.objects.iter().map(|object| object.lock.until).min().flatten()
    }

    fn is_any_held(&self) -> bool {
        self.objects.iter().any(|object| object.lock.hold)
    }
}

impl Keeper {
    /// A keeper that, in the background, looks at `pace` subjects a second at most.
    pub fn new(cases: Cases, following: Arc<Following>, rolling: Rolling, pace: u32) -> Self {
        let mut pace = interval(Duration::from_secs(1) / pace.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            cases,
            following,
            rolling,
            turns: Turns::default(),
            pace: Arc::new(Mutex::new(pace)),
            wake: Arc::default(),
            metrics: RegistryMetrics::new(),
        }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                match self.round().await {
                    Ok(0) => drop(tokio::time::timeout(POLL, self.wake.notified()).await),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "comparing locks with the rule failed; trying again");
                        tokio::time::sleep(POLL).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Looks at what is due by now, some of it; returns how many subjects that were.
    pub async fn round(&self) -> Result<usize, RegistryError> {
        self.cases.recover().await?;
        self.cases.recover_extensions(None).await?;
        let due = Subject::due(&self.cases.db, self.now(), ROUND).await?;
        let count = due.len();
        let looked = stream::iter(due).map(async |(id, revision)| {
            self.pace.lock().await.tick().await;
            let tightened = self.tighten(&id).await;
            self.metrics.compared.add(1, &[]);
            (id, revision, tightened)
        });
        let mut too_much = Vec::new();
        let mut looked = std::pin::pin!(looked.buffer_unordered(AT_ONCE));
        while let Some((id, revision, tightened)) = looked.next().await {
            match tightened {
                Ok(Looked::Right) => {}
                Ok(Looked::HeldWithoutNeed) => too_much.push((id, revision)),
                Ok(Looked::Unknown) => self.look_again(&id, revision).await?,
                Err(error) => {
                    tracing::warn!(subject = id, %error, "a lock can't be compared with the rule; trying again");
                    self.fails(&id).await?;
                    self.look_again(&id, revision).await?;
                }
            }
        }
        if !too_much.is_empty() {
            self.loosen(too_much).await?;
        }
        Ok(count)
    }

    /// Brings recordings to the rule at once, and returns when all that protects them was read back.
    pub async fn settle(&self, ids: Vec<String>) -> Result<(), RegistryError> {
        let settled = stream::iter(ids).map(async |id| {
            self.tighten(&id).await?;
            // What an earlier decision sent may still come: then it is put right, but nobody may rely on it yet.
            match Subject::load(&self.cases.db, &id).await? {
                Some(subject) if subject.off_sent_at.is_some() => Err(RegistryError::Unsettled),
                _ => Ok(()),
            }
        });
        settled.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Has it look at once for what is due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes holds off that the rule does not want. Nothing is decided while a rebuild is under way, on events not read to the
    /// end they have now, or where there is, or may be, an entry of a case that is not known.
    async fn loosen(&self, subjects: Vec<(String, i64)>) -> Result<(), RegistryError> {
        self.following.catch_up().await?;
        for (id, revision) in subjects {
            if let Err(error) = self.lift(&id).await {
                tracing::warn!(subject = id, %error, "a hold can't be taken off; trying again");
                // It protects more than it must.
                self.look_again(&id, revision).await?;
            }
        }
        Ok(())
    }

    /// Brings a subject to what the rule asks at least.
    async fn tighten(&self, id: &str) -> Result<Looked, RegistryError> {
        let _turn = self.turns.take(id).await;
        for _ in 0..CHANGES {
            let Some(subject) = self.load(id).await? else { return Ok(Looked::Unknown) };
            let objects = self.objects(&subject).await?;
            self.look_for_drift(&subject, &objects).await?;
            let found = self.bring(&subject, objects).await?;
            let is_too_much = !found.keeping.hold && found.is_any_held();
            if self.save(&subject, &found, is_too_much).await? {
                return Ok(if is_too_much { Looked::HeldWithoutNeed } else { Looked::Right });
            }
        }
        Err(RegistryError::Row(format!("{id} changes all the time")))
    }

    /// Takes the holds of a subject off, unless the rule wants them by now, and looks again.
    async fn lift(&self, id: &str) -> Result<(), RegistryError> {
        let _turn = self.turns.take(id).await;
        for _ in 0..CHANGES {
            let Some(subject) = self.load(id).await? else { return Ok(()) };
            // All dates are set and read back before a hold goes.
            let found = self.bring(&subject, self.objects(&subject).await?).await?;
            if found.keeping.hold || !found.is_any_held() {
                if self.save(&subject, &found, false).await? {
                    return Ok(());
                }
                continue;
            }
            self.cases.clock_agrees().await?;
            let noted_at = self.now();
            if !self.may_lift(&subject, noted_at).await? {
                return self.look_again(id, subject.revision).await;
            }
            for object in found.objects.iter().filter(|object| object.lock.hold) {
                // A process that was halted in between knows nothing any more.
                if self.now().duration_since(noted_at) > AGAIN {
                    return Err(RegistryError::Unsettled);
                }
                self.store().set_hold(&object.key, &object.version, false).await?;
                self.metrics.lifted.add(1, &[]);
            }
            // All of them were answered. What an earlier try sent may still come.
            if subject.off_sent_at.is_none() {
                let done = sqlx::query("UPDATE locks SET off_sent_at = NULL WHERE subject = $1 AND off_sent_at = $2");
                done.bind(id).bind(noted_at.as_second()).execute(self.cases.db.pool()).await?;
            }
            // And again: it may have changed meanwhile.
        }
        Err(RegistryError::Row(format!("{id} changes all the time")))
    }

    /// In one step with the check that nothing has changed: notes that a hold may be on its way off.
    async fn may_lift(&self, subject: &Subject, now: Timestamp) -> Result<bool, RegistryError> {
        let noted = sqlx::query(
            "UPDATE locks SET off_sent_at = $1, hold = 0 WHERE subject = $2 AND revision = $3
             AND NOT EXISTS (SELECT 1 FROM rebuild)
             AND NOT EXISTS (SELECT 1 FROM unread_entries WHERE bureau = $4)
             AND NOT EXISTS (SELECT 1 FROM case_intents WHERE bureau = $4)",
        )
        .bind(now.as_second())
        .bind(&subject.id)
        .bind(subject.revision)
        .bind(subject.bureau.to_string())
        .execute(self.cases.db.pool())
        .await?;
        Ok(noted.rows_affected() == 1)
    }

    async fn load(&self, id: &str) -> Result<Option<Subject>, RegistryError> {
        let mut subject = Subject::load(&self.cases.db, id).await?;
        if let Some(subject) = &mut subject {
            let now = self.now();
            subject.off_sent_at = subject.off_sent_at.filter(|at| now.duration_since(*at) < LATE);
        }
        Ok(subject)
    }

    /// All that is kept as this subject is.
    async fn objects(&self, subject: &Subject) -> Result<Vec<Object>, RegistryError> {
        let mut objects = objects::below(self.store(), &subject.prefix).await?;
        if let Some(extensions) = &subject.extensions {
            objects.extend(objects::below(self.store(), extensions).await?);
        }
        Ok(objects)
    }

    /// Tells of objects that are protected by less than was read back before, before they are put right: who dies in between
    /// finds it again, and tells the same.
    async fn look_for_drift(&self, subject: &Subject, objects: &[Object]) -> Result<(), RegistryError> {
        // Where a hold may be on its way off by our own order, its absence says nothing.
        let Some(read_back) = subject.read_back.filter(|_| subject.off_sent_at.is_none()) else { return Ok(()) };
        // What came since has the date it was made with, and was never read back: what media and extensions add beside a
        // recording, and the entry that has just changed a case.
        let is_known = |object: &&Object| match subject.stored_at {
            Some(_) => {
                ["original", "manifest.json"].iter().any(|name| object.key == format!("{}{name}", subject.prefix))
            }
            None => subject.is_kept,
        };
        for object in objects.iter().filter(is_known) {
            let has_less = object.lock.until < read_back.until || (read_back.hold && !object.lock.hold);
            if !has_less && object.markers.is_empty() {
                continue;
            }
            let is_recording = subject.stored_at.is_some();
            let drifted = RetentionDrifted {
                recording_id: if is_recording { subject.id.clone() } else { String::new() },
                case_id: if is_recording { String::new() } else { subject.id.clone() },
                bureau: subject.bureau.to_string(),
                object_key: object.key.clone(),
                found_locked_until: object.lock.until.map(to_proto),
                found_legal_hold: object.lock.hold,
                hidden: !object.markers.is_empty(),
            };
            tracing::error!(key = object.key, found = ?object.lock, ?read_back, "a lock has drifted");
            let mut tx = self.cases.db.begin().await?;
            // A row is looked at anew each time it was kept: what was read back then tells one finding from the next.
            let finding = format!("{}/{}", subject.revision, subject.kept_at);
            let event = RegistryEvent::RetentionDrifted(drifted, finding);
            tell(&mut tx, subject.bureau.as_str(), &event, self.now()).await?;
            tx.commit().await?;
            self.metrics.drifted.add(1, &[]);
        }
        Ok(())
    }

    /// Raises what time alone gives reason for: a case that is not opened, a case without footage.
    async fn flag(
        &self,
        tx: &mut sqlx::Transaction<'static, sqlx::Any>,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let (id, bureau) = (subject.id.as_str(), subject.bureau.as_str());
        let (of, flag, from, detail) = match subject.stored_at {
            Some(stored_at) => {
                let of = attention::Subject::Recording { id, bureau };
                let Some(unopened) = subject.bonds.iter().find(|bond| bond.status.is_none()) else {
                    attention::clear(tx, of, Flag::CaseNeverOpened).await?;
                    return Ok(None);
                };
                let detail = format!("case {} is not opened", unopened.number);
                (of, Flag::CaseNeverOpened, self.cases.rules.flagged_from(stored_at)?, detail)
            }
            None => {
                let of = attention::Subject::Case { id, bureau };
                // Of a closed case all is said, and its footage may be disposed of; and while a rebuild is under way not all footage
                // is known.
                if !matches!(subject.bonds.as_slice(), [Bond { status: Some(Status::Open), .. }]) {
                    return Ok(None);
                }
                if sqlx::query("SELECT 1 FROM rebuild").fetch_optional(&mut **tx).await?.is_some() {
                    return Ok(Some(now.checked_add(AGAIN)?));
                }
                let Some(opened_at) = self.lacks_footage(tx, id).await? else {
                    attention::clear(tx, of, Flag::FootageMissing).await?;
                    return Ok(None);
                };
                let from = self.cases.rules.calendar.due(opened_at, caselock_domain::deadline::WORKING_DAYS)?.at;
                let detail = "no footage, and no note of why, though all had to be recorded".to_owned();
                (of, Flag::FootageMissing, from, detail)
            }
        };
        if from > now {
            return Ok(Some(from));
        }
        attention::raise(tx, of, flag, &detail, from, Telling::News).await?;
        Ok(None)
    }

    /// Since when a case is open that had to be recorded, where it has neither footage nor a note. That it had to be, the case
    /// says or anything that is evidence in it; what is written down, or kept as data, is no footage (Articles 6 and 8).
    async fn lacks_footage(
        &self,
        tx: &mut sqlx::Transaction<'static, sqlx::Any>,
        id: &str,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let row = sqlx::query(
            "SELECT opened_at FROM cases c WHERE id = $1
             AND (full_recording_required = 1 OR EXISTS (SELECT 1 FROM bonds b JOIN recordings r ON r.id = b.recording_id
                 WHERE b.case_id = c.id AND r.metadata LIKE '%\"full_recording_required\":true%'))
             AND NOT EXISTS (SELECT 1 FROM bonds b JOIN recordings r ON r.id = b.recording_id
                 WHERE b.case_id = c.id AND r.metadata LIKE '%\"record_form\":\"audiovisual\"%')
             AND NOT EXISTS (SELECT 1 FROM case_entries e WHERE e.case_id = c.id AND e.document LIKE '%\"kind\":\"noted\"%')",
        );
        row.bind(id).fetch_optional(&mut **tx).await?.map(|row| moment(row.try_get(0)?)).transpose()
    }

    /// Sets dates and holds that are less than the rule says, and takes delete markers away that hide an object. What fails for
    /// one object is tried for every other all the same: locks first, for they protect.
    async fn bring(&self, subject: &Subject, mut objects: Vec<Object>) -> Result<Found, RegistryError> {
        let store = self.store();
        let mut failed = None;
        let now = self.now();
        let set = objects.iter().map(|object| object.lock.until).min().flatten().unwrap_or(Timestamp::MIN);
        let keeping = keeping(now, subject.floor, set, &subject.bonds, &self.rolling)?;
        // A date that has passed can't be set, and protects nothing.
        let until = Some(keeping.until).filter(|until| *until > now);
        for object in &mut objects {
            if object.lock.until < until || (keeping.hold && !object.lock.hold) {
                let wanted = Lock { until, hold: keeping.hold };
                match ensure_locked(store, &object.key, &object.version, wanted).await {
                    Ok(lock) => {
                        object.lock = lock;
                        self.metrics.tightened.add(1, &[]);
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        for object in &objects {
            for marker in &object.markers {
                tracing::error!(key = object.key, "a delete marker hides an object; it is taken away");
                if let Err(error) = store.delete_version(&object.key, marker, false).await {
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(Found { keeping, objects }),
        }
    }

    /// Notes what was read back, unless the subject changed meanwhile.
    async fn save(&self, subject: &Subject, found: &Found, is_too_much: bool) -> Result<bool, RegistryError> {
        let now = self.now();
        let (follows, case) = words(&found.keeping.because);
        let hold = !found.objects.is_empty() && found.objects.iter().all(|object| object.lock.hold);
        let lock = Lock { until: found.until(), hold };
        let mut tx = self.cases.db.begin().await?;
        let flagged = self.flag(&mut tx, subject, now).await?;
        let next = if is_too_much { now } else { self.next_look(now, subject, found)? };
        let next = flagged.map_or(next, |flagged| next.min(flagged));
        if found.objects.is_empty() {
            tracing::error!(subject = subject.id, prefix = subject.prefix, "nothing lies in the store");
        }
        let saved = sqlx::query(
            "UPDATE locks SET kept_revision = $9, lock_until = $1, hold = $2, follows = $3, follows_case = $4,
                 look_at = $5, off_sent_at = $6, kept_at = $10,
                 failing_since = CASE WHEN $11 = 0 THEN NULL ELSE COALESCE(failing_since, $10) END
             WHERE subject = $7 AND revision = $8",
        )
        .bind(lock.until.map(Timestamp::as_second))
        .bind(i64::from(lock.hold))
        .bind(follows)
        .bind(case)
        .bind(next.as_second())
        .bind(subject.off_sent_at.map(Timestamp::as_second))
        .bind(&subject.id)
        .bind(subject.revision)
        .bind((!is_too_much).then_some(subject.revision))
        .bind(now.as_second())
        // A recording of which nothing lies there is protected by nothing.
        .bind(i64::from(found.objects.is_empty()))
        .execute(&mut *tx)
        .await?;
        if saved.rows_affected() != 1 {
            return Ok(false);
        }
        // While a hold is still to be taken off, what protects is not yet what it will be.
        if !is_too_much {
            tell_change(&mut tx, subject, lock, &found.keeping.because, now).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// When the store is to be looked at next: in time to roll a lock forward, and every month in any case.
    fn next_look(&self, now: Timestamp, subject: &Subject, found: &Found) -> Result<Timestamp, RegistryError> {
        let mut next = now.checked_add(COMPARED)?;
        if let Some(until) = found.until().filter(|_| found.keeping.hold) {
            let under = &self.rolling.when_under;
            let until = until.to_zoned_datetime(shanghai());
            // Rule and calendar clamp at the ends of months: a day early is never too late.
            let early = if is_in_clock_units(under) { 0 } else { 1 };
            next = next.min(until.checked_sub(*under)?.checked_sub(early.days())?.timestamp());
        }
        if subject.off_sent_at.is_some() || found.objects.is_empty() {
            next = next.min(now.checked_add(AGAIN)?);
        }
        Ok(next.max(now.checked_add(SignedDuration::from_secs(1))?))
    }

    /// Notes that what protects a subject is not known to be what the rule says.
    async fn fails(&self, id: &str) -> Result<(), RegistryError> {
        let failing = sqlx::query("UPDATE locks SET failing_since = $1 WHERE subject = $2 AND failing_since IS NULL");
        failing.bind(self.now().as_second()).bind(id).execute(self.cases.db.pool()).await?;
        Ok(())
    }

    /// Later, unless it changed meanwhile.
    async fn look_again(&self, id: &str, revision: i64) -> Result<(), RegistryError> {
        let later = sqlx::query("UPDATE locks SET look_at = $1 WHERE subject = $2 AND revision = $3");
        let at = self.now().checked_add(AGAIN)?.as_second();
        later.bind(at).bind(id).bind(revision).execute(self.cases.db.pool()).await?;
        Ok(())
    }

    fn now(&self) -> Timestamp {
        (self.cases.clock)()
    }

    fn store(&self) -> &dyn Store {
        &*self.cases.store
    }
}
