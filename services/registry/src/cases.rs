//! Cases: entries that are locked objects first, and rows after.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use caselock_domain::{
    case::{self, Case, CaseChange, CaseEntry, CaseId, CaseNumber, Kept, Status},
    event::RegistryEvent,
    flag::Flag,
    id::BureauId,
    object_key,
    retention::end_of,
    time::{Clock, whole_seconds},
};
use caselock_store::{Lock, NewObject, Store, create_locked, probe::clocks_agree, read_document};
use jiff::Span;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use crate::{
    Db, RegistryError, Rules, disposal, facets,
    keeper::LATE,
    locks::{touch_case, touch_known},
    malformed,
    outbox::{Telling, tell},
    turns::Turns,
};

/// An entry is never larger than this: ten thousand recordings bound at once, and their texts.
const LIMIT: usize = 1 << 20;
/// For how long it counts that two clocks agree.
const AGREED: Duration = Duration::from_secs(60);
/// How often an entry makes room for one that was written meanwhile.
const TURNS: u32 = 10;

/// The cases of every bureau.
#[derive(Clone)]
pub struct Cases {
    /// The database.
    pub db: Db,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// What deadlines and flags are judged by.
    pub rules: Arc<Rules>,
    /// How long an entry is locked when it is written; it is held as well.
    pub(crate) locked_for: Span,
    pub(crate) turns: Turns,
    /// When our clock and the store's agreed last.
    agreed_at: Arc<Mutex<Option<Instant>>>,
}

impl Cases {
    /// The cases in a database and a store. An entry is held, and locked for so long to begin with.
    pub fn new(db: Db, store: Arc<dyn Store>, clock: Clock, rules: Arc<Rules>, locked_for: Span) -> Self {
        Self { db, store, clock, rules, locked_for, turns: Turns::default(), agreed_at: Arc::default() }
    }

    /// Whether our clock and the store's agree, asked anew each minute: by a clock that is wrong nothing is judged that can't
    /// be taken back.
    pub async fn clock_agrees(&self) -> Result<(), RegistryError> {
        let agreed_at = *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if agreed_at.is_none_or(|at| at.elapsed() > AGREED) {
            clocks_agree(&*self.store, (self.clock)()).await?;
            *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        Ok(())
    }

    /// The same with another database.
    pub fn with_db(&self, db: Db) -> Self {
        Self { db, ..self.clone() }
    }

    /// A bureau's case; another bureau's is not there.
    pub async fn find(&self, bureau: &BureauId, number: &CaseNumber) -> Result<Option<Case>, RegistryError> {
        let rows = sqlx::query("SELECT document FROM case_entries WHERE case_id = $1 ORDER BY seq")
            .bind(CaseId::derive(bureau, number).to_string())
            .fetch_all(self.db.pool())
            .await?;
        let mut case = None;
        for row in rows {
            let document: String = row.try_get(0)?;
            let entry = serde_json::from_str(&document).map_err(|e| RegistryError::Entry(e.to_string()))?;
            case = Some(follow(case, &entry)?);
        }
        Ok(case)
    }

    /// Adds an entry to a case: a locked object, read back, before this answers. What does not follow from the entries there
    /// are is refused, and changes nothing. What the case says already is not written again. By a clock that may be wrong no case
    /// is closed: its day and the locks that follow from it can't be taken back.
    pub async fn append(
        &self,
        bureau: &BureauId,
        number: &CaseNumber,
        by: &str,
        change: CaseChange,
    ) -> Result<Case, RegistryError> {
        let _turn = self.turns.take(&CaseId::derive(bureau, number).to_string()).await;
        let mut case = self.find(bureau, number).await?;
        for _ in 0..TURNS {
            if let Some(case) = case.as_ref().filter(|case| case.says(&change)) {
                return Ok(case.clone());
            }
            if matches!(change, CaseChange::Closed { .. }) {
                self.clock_agrees().await?;
            }
            let entry = CaseEntry {
                media_type: case::MEDIA_TYPE.into(),
                bureau: bureau.clone(),
                number: number.clone(),
                seq: case.as_ref().map_or(1, |case| case.seq + 1),
                at: whole_seconds((self.clock)()),
                by: by.to_owned(),
                change: change.clone(),
            };
            let next = follow(case.clone(), &entry)?;
            self.refuse_disposed(&change).await?;
            let is_new = self.intend(&entry).await?;
            // And again: whoever begins to remove a recording from here on finds the intent, or that the recording has changed.
            if let Err(refused) = self.refuse_disposed(&change).await {
                // Nothing of it was written, unless somebody else had begun the same entry before.
                if is_new {
                    self.forget_intent(CaseId::derive(bureau, number), entry.seq as i64).await?;
                }
                return Err(refused);
            }
            let there = self.write(&entry).await?;
            let is_own = (&there.by, &there.change) == (&entry.by, &entry.change);
            let known = if there == entry { next } else { follow(case, &there)? };
            self.save(&known, &there, Telling::News).await?;
            if is_own {
                return Ok(known);
            }
            // Another entry was written meanwhile, or before a crash: this one comes after it, if it still follows.
            case = Some(known);
        }
        Err(RegistryError::Entry("others write to this case all the time: try again".into()))
    }

    /// Looks for entries that were written, but not noted: this process, or another, may have died in between, or the store
    /// may have taken one whose writer had given up.
    pub async fn recover(&self) -> Result<(), RegistryError> {
        let intents = sqlx::query("SELECT bureau, number, seq, at FROM case_intents ORDER BY case_id, seq");
        for row in intents.fetch_all(self.db.pool()).await? {
            // While it stays, nothing of its bureau is loosened.
            if let Err(error) = self.recover_intent(&row).await {
                tracing::error!(%error, "an entry that was begun can't be recovered; trying again");
            }
        }
        Ok(())
    }

    async fn recover_intent(&self, row: &AnyRow) -> Result<(), RegistryError> {
        let (bureau, number): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (seq, at): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        let bureau: BureauId = bureau.parse().map_err(malformed)?;
        let number = CaseNumber::try_from(number).map_err(malformed)?;
        let id = CaseId::derive(&bureau, &number);
        let _turn = self.turns.take(&id.to_string()).await;
        match self.read(&object_key::case_entry(&bureau, id, seq as u64)).await? {
            Some(entry) => {
                // It may have died before the lock was read back.
                self.write(&entry).await?;
                self.adopt(&entry, Telling::News).await
            }
            // It may still be on its way.
            None if (self.clock)().as_second() < at.saturating_add(LATE.as_secs()) => Ok(()),
            None => self.forget_intent(id, seq).await,
        }
    }

    /// Entries after one, in order, as they lie in the store.
    pub async fn entries(
        &self,
        case: &Case,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(CaseEntry, String)>, RegistryError> {
        let rows =
            sqlx::query("SELECT document FROM case_entries WHERE case_id = $1 AND seq > $2 ORDER BY seq LIMIT $3");
        let rows = rows.bind(case.id().to_string()).bind(after as i64).bind(i64::from(limit));
        let entry = |row: &AnyRow| {
            let document: String = row.try_get(0)?;
            let entry = serde_json::from_str(&document).map_err(|e| RegistryError::Entry(e.to_string()))?;
            Ok((entry, document))
        };
        rows.fetch_all(self.db.pool()).await?.iter().map(entry).collect()
    }

    /// Numbers of a bureau's cases that come after one, in order; of those that stand so and are flagged so, where that is said.
    pub async fn numbers(
        &self,
        bureau: &BureauId,
        status: Option<&str>,
        flag: Option<Flag>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<CaseNumber>, RegistryError> {
        let rows = sqlx::query(
            "SELECT number FROM cases WHERE bureau = $1 AND number > $2 AND ($3 = '' OR status = $3)
             AND ($4 = '' OR EXISTS (SELECT 1 FROM flags f WHERE f.subject = cases.id AND f.flag = $4))
             ORDER BY number LIMIT $5",
        );
        let flag = flag.map(Flag::as_str).unwrap_or_default();
        let rows = rows.bind(bureau.to_string()).bind(after).bind(status.unwrap_or_default()).bind(flag);
        let rows = rows.bind(i64::from(limit));
        let number = |row: &AnyRow| {
            let number: String = row.try_get(0)?;
            CaseNumber::try_from(number).map_err(|e| RegistryError::Entry(e.to_string()))
        };
        rows.fetch_all(self.db.pool()).await?.iter().map(number).collect()
    }

    /// The recordings that are evidence in a case.
    pub async fn evidence(&self, case: &Case) -> Result<Vec<String>, RegistryError> {
        let rows = sqlx::query(
            "SELECT b.recording_id FROM bonds b JOIN recordings r ON r.id = b.recording_id
             WHERE b.case_id = $1 ORDER BY b.recording_id",
        );
        let rows = rows.bind(case.id().to_string()).fetch_all(self.db.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How many recordings are evidence in a case, and to how many of those the store has not been brought yet.
    pub async fn counts(&self, case: &Case) -> Result<(u64, u64), RegistryError> {
        let row = sqlx::query(
            "SELECT COUNT(*), COUNT(CASE WHEN l.kept_revision = l.revision THEN 1 END)
             FROM bonds b JOIN locks l ON l.subject = b.recording_id WHERE b.case_id = $1",
        );
        let row = row.bind(case.id().to_string()).fetch_one(self.db.pool()).await?;
        let (all, kept): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((all as u64, (all - kept) as u64))
    }

    /// Takes the entries of a case that lie in the store, up to one, into the database. What can't be taken over is passed over.
    pub async fn adopt_up_to(&self, bureau: &str, number: &str, seq: u64) -> Result<(), RegistryError> {
        let (Ok(bureau), Ok(number)) = (bureau.parse::<BureauId>(), CaseNumber::try_from(number.to_owned())) else {
            return Ok(());
        };
        let id = CaseId::derive(&bureau, &number);
        let known = self.find(&bureau, &number).await?.map_or(0, |case| case.seq);
        for seq in known + 1..=seq {
            let key = object_key::case_entry(&bureau, id, seq);
            self.take_entry(&key, true).await?;
        }
        Ok(())
    }

    /// Takes the entry at a key into the database. One that can't be read, does not follow, or is not there though it must be,
    /// stops nothing; but while it is not known, nothing of its bureau is loosened.
    pub async fn take_entry(&self, key: &str, must_be_there: bool) -> Result<(), RegistryError> {
        let adopted = match self.read(key).await {
            Ok(Some(entry)) => self.adopt(&entry, Telling::Past).await,
            Ok(None) if must_be_there => Err(RegistryError::Entry(format!("{key}: it is not there"))),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match adopted {
            Err(error @ (RegistryError::Case(_) | RegistryError::Entry(_))) => {
                tracing::error!(key, %error, "an entry of a case can't be taken over");
                let bureau = key.split('/').nth(1).unwrap_or_default();
                let unread =
                    sqlx::query("INSERT INTO unread_entries (key, bureau) VALUES ($1, $2) ON CONFLICT DO NOTHING");
                unread.bind(key).bind(bureau).execute(self.db.pool()).await?;
                Ok(())
            }
            adopted => adopted,
        }
    }

    /// Takes an entry that lies in the store into the database. One that is known changes nothing.
    pub async fn adopt(&self, entry: &CaseEntry, telling: Telling) -> Result<(), RegistryError> {
        let case = self.find(&entry.bureau, &entry.number).await?;
        let case = match case {
            Some(case) if entry.seq <= case.seq => case,
            before => follow(before, entry)?,
        };
        self.save(&case, entry, telling).await
    }

    /// The entry at a key.
    pub async fn read(&self, key: &str) -> Result<Option<CaseEntry>, RegistryError> {
        let Some((_, bytes)) = read_document(&*self.store, key, LIMIT).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| RegistryError::Entry(format!("{key}: {error}")))
    }

    /// Writes an entry unless its place is taken, locks and holds what stands there, and returns that.
    async fn write(&self, entry: &CaseEntry) -> Result<CaseEntry, RegistryError> {
        let key = object_key::case_entry(&entry.bureau, CaseId::derive(&entry.bureau, &entry.number), entry.seq);
        let bytes = serde_json::to_vec_pretty(entry).map_err(|e| RegistryError::Entry(e.to_string()))?;
        // The file lives as long as its case: held, and rolled forward with the recordings.
        let until = end_of((self.clock)(), &self.locked_for)?;
        let new = NewObject { content_type: case::MEDIA_TYPE.into(), part_size: 0, lock_until: until };
        let lock = Lock { until: Some(until), hold: true };
        match create_locked(&*self.store, &key, &new, Bytes::from(bytes), lock, LIMIT).await? {
            None => Ok(entry.clone()),
            Some(there) => serde_json::from_slice(&there).map_err(|e| RegistryError::Entry(format!("{key}: {e}"))),
        }
    }

    /// Notes that an entry is about to be written; in the same step, that what it protects may change. Whether nobody had before.
    async fn intend(&self, entry: &CaseEntry) -> Result<bool, RegistryError> {
        let id = CaseId::derive(&entry.bureau, &entry.number).to_string();
        let mut tx = self.db.begin().await?;
        let known = sqlx::query("SELECT 1 FROM case_intents WHERE case_id = $1 AND seq = $2");
        let known = known.bind(&id).bind(entry.seq as i64).fetch_optional(&mut *tx).await?;
        match &entry.change {
            CaseChange::Bound { recordings } => touch_known(&mut tx, recordings).await?,
            CaseChange::Reopened { .. } => {
                touch_case(&mut tx, &id, entry.bureau.as_str(), entry.number.as_str()).await?;
            }
            _ => {}
        }
        sqlx::query(
            "INSERT INTO case_intents (case_id, seq, bureau, number, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (case_id, seq) DO UPDATE SET at = excluded.at",
        )
        .bind(&id)
        .bind(entry.seq as i64)
        .bind(entry.bureau.to_string())
        .bind(entry.number.to_string())
        .bind((self.clock)().as_second())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(known.is_none())
    }

    /// What is being removed can't be evidence any more.
    async fn refuse_disposed(&self, change: &CaseChange) -> Result<(), RegistryError> {
        let CaseChange::Bound { recordings } = change else { return Ok(()) };
        match disposal::gone_of(self.db.pool(), recordings).await? {
            Some(id) => Err(RegistryError::Disposed(id)),
            None => Ok(()),
        }
    }

    async fn forget_intent(&self, case: CaseId, seq: i64) -> Result<(), RegistryError> {
        let gone = sqlx::query("DELETE FROM case_intents WHERE case_id = $1 AND seq = $2");
        gone.bind(case.to_string()).bind(seq).execute(self.db.pool()).await?;
        Ok(())
    }

    async fn save(&self, case: &Case, entry: &CaseEntry, telling: Telling) -> Result<(), RegistryError> {
        let mut transaction = self.db.begin().await?;
        let document = serde_json::to_string(entry).map_err(|e| RegistryError::Entry(e.to_string()))?;
        let id = case.id().to_string();
        let new =
            sqlx::query("INSERT INTO case_entries (case_id, seq, document) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
        let new = new.bind(&id).bind(entry.seq as i64).bind(document).execute(&mut *transaction).await?;
        if new.rows_affected() == 1 && telling == Telling::News {
            tell(&mut transaction, case.bureau.as_str(), &RegistryEvent::of_entry(entry), entry.at).await?;
        }
        save_case(&mut transaction, &id, case, &entry.change).await?;
        facets::of_case(&mut transaction, &id).await?;
        touch_case(&mut transaction, &id, case.bureau.as_str(), case.number.as_str()).await?;
        sqlx::query("DELETE FROM case_intents WHERE case_id = $1 AND seq = $2")
            .bind(&id)
            .bind(entry.seq as i64)
            .execute(&mut *transaction)
            .await?;
        let key = object_key::case_entry(&case.bureau, case.id(), entry.seq);
        sqlx::query("DELETE FROM unread_entries WHERE key = $1").bind(key).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

fn follow(case: Option<Case>, entry: &CaseEntry) -> Result<Case, RegistryError> {
    match case {
        None => Ok(Case::open(entry)?),
        Some(mut case) => {
            case.apply(entry)?;
            Ok(case)
        }
    }
}

async fn save_case(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
    case: &Case,
    change: &CaseChange,
) -> Result<(), RegistryError> {
    let (class, closed_on) = case.closing.as_ref().map(|(class, on)| (class, on.to_string())).unzip();
    let (status, kept_until) = match case.status {
        Status::Open => ("open", None),
        Status::Closed(Kept::Until { until }) => ("closed", Some(until.as_second())),
        Status::Closed(Kept::Permanently) => ("permanent", None),
    };
    sqlx::query(
        "INSERT INTO cases (id, bureau, number, seq, opened_at, party, cause, status, kept_until, class, closed_on,
             full_recording_required)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, party = excluded.party, cause = excluded.cause,
             status = excluded.status, kept_until = excluded.kept_until, class = excluded.class,
             closed_on = excluded.closed_on, full_recording_required = excluded.full_recording_required
         WHERE excluded.seq > cases.seq",
    )
    .bind(id)
    .bind(case.bureau.to_string())
    .bind(case.number.to_string())
    .bind(case.seq as i64)
    .bind(case.opened_at.as_second())
    .bind(&case.party)
    .bind(&case.cause)
    .bind(status)
    .bind(kept_until)
    .bind(class)
    .bind(closed_on)
    .bind(i64::from(case.full_recording_required))
    .execute(&mut **transaction)
    .await?;
    let CaseChange::Bound { recordings } = change else { return Ok(()) };
    for recording in recordings {
        sqlx::query("INSERT INTO evidence (case_id, recording_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(recording.to_string())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
