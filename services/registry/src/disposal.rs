//! Disposal: what has run out is removed, by a person's order, and a record of it is left.
//!
//! Whether it may be is checked in the transaction that begins it. What is begun is finished, whatever dies: the record is
//! written and locked, the fact is in `uploads` (an old receipt vouches for nothing any more), and only then versions are
//! deleted, each by its id, so that nothing of it concerns footage that is stored again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use caselock_domain::{
    disposal::{self, Disposal, Removed},
    event::RegistryEvent,
    fact::{Disposed, Fact, FactKey, Subject as FactSubject},
    id::{BureauId, RecordingId},
    object_key,
    retention::end_of,
    time::{Timestamp, whole_seconds},
};
use caselock_log::{Log, append_fact};
use caselock_proto::events::v1::RecordingDisposed;
use caselock_store::{ErrorKind, Lock, NewObject, create_locked, ensure_locked, oldest_version, read_document};
use sqlx::{Any, AnyPool, Row, Transaction, any::AnyRow};
use tokio_util::sync::CancellationToken;

use crate::{
    Cases, Db, Following, Keeper, Recording, RegistryError, malformed,
    metrics::RegistryMetrics,
    moment, objects,
    outbox::{Outbox, tell},
};

/// A record is never larger than this.
const LIMIT: usize = 1 << 20;
/// Disposals read at once.
const PAGE: i64 = 50;
/// How often it is looked whether something is to be finished.
const POLL: Duration = Duration::from_secs(30);

/// A recording that may be removed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposable {
    /// The recording.
    pub recording: Recording,
    /// Until when it was locked, as read back last, in seconds since 1970.
    pub locked_until: i64,
    /// What that followed from.
    pub follows: String,
    /// The case it followed from.
    pub follows_case: Option<String>,
}

/// What must hold of the row of `locks` l and of the time $1: all was read back as the rule says now, nothing is held, the last
/// date has passed, and no rebuild is under way and no entry of a case may be there that is not known.
const ELIGIBLE: &str = "l.kind = 'recording' AND l.kept_revision = l.revision AND l.hold = 0 AND l.off_sent_at IS NULL
    AND l.lock_until <= $1 AND l.follows IN ('floor', 'closed_case', 'earlier_lock')
    AND NOT EXISTS (SELECT 1 FROM disposals d WHERE d.recording_id = l.subject AND d.is_done = 0)
    AND NOT EXISTS (SELECT 1 FROM rebuild)
    AND NOT EXISTS (SELECT 1 FROM unread_entries u WHERE u.bureau = l.bureau)
    AND NOT EXISTS (SELECT 1 FROM case_intents i WHERE i.bureau = l.bureau)";

/// Whether a generation is, or was, removed.
pub async fn is_disposed(db: &Db, id: RecordingId, generation: u32) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM disposals WHERE recording_id = $1 AND generation = $2");
    Ok(row.bind(id.to_string()).bind(i64::from(generation)).fetch_optional(db.pool()).await?.is_some())
}

/// Whether this generation, or a later one, is or was removed.
pub async fn covers(tx: &mut Transaction<'static, Any>, id: &str, generation: u32) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM disposals WHERE recording_id = $1 AND generation >= $2");
    Ok(row.bind(id).bind(i64::from(generation)).fetch_optional(&mut **tx).await?.is_some())
}

/// One of these that is being removed, or was and is not stored again.
pub async fn gone_of(pool: &AnyPool, ids: &[RecordingId]) -> Result<Option<RecordingId>, RegistryError> {
    for id in ids {
        let row = sqlx::query(
            "SELECT 1 FROM disposals d WHERE d.recording_id = $1 AND (d.is_done = 0 OR NOT EXISTS (
                 SELECT 1 FROM recordings r WHERE r.id = d.recording_id AND r.generation > d.generation))",
        );
        if row.bind(id.to_string()).fetch_optional(pool).await?.is_some() {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

/// The fact of a disposal, found in `uploads`: whatever database began it, it is to be finished.
pub async fn is_known(
    tx: &mut Transaction<'static, Any>,
    (bureau, id): (&str, &str),
    generation: u32,
    at: Timestamp,
) -> Result<(), RegistryError> {
    if begin_row(tx, (bureau, id), generation, at, "").await? && forget(tx, id, generation).await? {
        // What was opened again is said by facts that come after this one.
        let gone = sqlx::query("DELETE FROM deadlines WHERE recording_id = $1");
        gone.bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The event of a disposal, found in the log: nothing is left to be done.
pub async fn was_done(tx: &mut Transaction<'static, Any>, told: &RecordingDisposed) -> Result<(), RegistryError> {
    let (id, generation) = (told.recording_id.as_str(), told.generation);
    begin_row(tx, (&told.bureau, id), generation, Timestamp::UNIX_EPOCH, "").await?;
    let done = sqlx::query("UPDATE disposals SET is_done = 1 WHERE recording_id = $1 AND generation = $2");
    done.bind(id).bind(i64::from(generation)).execute(&mut **tx).await?;
    forget(tx, id, generation).await.map(drop)
}

async fn begin_row(
    tx: &mut Transaction<'static, Any>,
    (bureau, id): (&str, &str),
    generation: u32,
    at: Timestamp,
    document: &str,
) -> Result<bool, RegistryError> {
    let begun = sqlx::query(
        "INSERT INTO disposals (recording_id, generation, bureau, at, document, is_done) VALUES ($1, $2, $3, $4, $5, 0)
         ON CONFLICT DO NOTHING",
    );
    let begun = begun.bind(id).bind(i64::from(generation)).bind(bureau);
    let begun = begun.bind(at.as_second()).bind(document).execute(&mut **tx).await?;
    Ok(begun.rows_affected() == 1)
}

/// Removes what is known of a generation; a later one stays. Whether there is none.
async fn forget(tx: &mut Transaction<'static, Any>, id: &str, generation: u32) -> Result<bool, RegistryError> {
    let gone = sqlx::query("DELETE FROM recordings WHERE id = $1 AND generation <= $2");
    gone.bind(id).bind(i64::from(generation)).execute(&mut **tx).await?;
    let later = sqlx::query("SELECT 1 FROM recordings WHERE id = $1").bind(id).fetch_optional(&mut **tx).await?;
    if later.is_some() {
        return Ok(false);
    }
    for statement in [
        "DELETE FROM facets WHERE recording_id = $1",
        "DELETE FROM locks WHERE subject = $1",
        "DELETE FROM flags WHERE subject = $1",
        "DELETE FROM extensions WHERE recording_id = $1",
        // What was stored is over; what is opened since is awaited anew.
        "DELETE FROM deadlines WHERE recording_id = $1 AND stored_at IS NOT NULL",
    ] {
        sqlx::query(statement).bind(id).execute(&mut **tx).await?;
    }
    Ok(true)
}

/// Removes recordings.
#[derive(Clone)]
pub struct Disposer {
    cases: Cases,
    following: Arc<Following>,
    keeper: Keeper,
    outbox: Outbox,
    log: Arc<dyn Log>,
    metrics: RegistryMetrics,
}

/// Why a recording is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No such stored recording of the bureau.
    Unknown,
    /// Its retention has not run out, or that is not certain now.
    Retained(String),
}

impl Disposer {
    /// Removes what the keeper has found to have run out.
    pub fn new(cases: Cases, following: Arc<Following>, keeper: Keeper, outbox: Outbox, log: Arc<dyn Log>) -> Self {
        Self { cases, following, keeper, outbox, log, metrics: RegistryMetrics::new() }
    }

    /// Finishes what was begun, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.finish_all(None).await {
                    tracing::warn!(%error, "disposals can't be finished; trying again");
                }
                if let Err(error) = self.hold_again().await {
                    tracing::warn!(%error, "records of disposals can't be held; trying again");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Recordings of a bureau that may be removed, what ran out first comes first; after one: its date and id. Nothing is called
    /// so on a view that may lack what protects it.
    pub async fn list(
        &self,
        bureau: &BureauId,
        after: &(i64, String),
        limit: u32,
    ) -> Result<Vec<Disposable>, RegistryError> {
        self.ensure_view_is_whole().await?;
        let statement = format!(
            "SELECT r.*, l.lock_until, l.follows, l.follows_case FROM locks l JOIN recordings r ON r.id = l.subject
             WHERE l.bureau = $2 AND {ELIGIBLE} AND (l.lock_until, l.subject) > ($4, $3)
             ORDER BY l.lock_until, l.subject LIMIT $5"
        );
        // Made of nothing but the words above.
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind((self.cases.clock)().as_second());
        let rows = rows.bind(bureau.to_string()).bind(&after.1).bind(after.0).bind(i64::from(limit));
        let disposable = |row: &AnyRow| {
            Ok(Disposable {
                recording: Recording::of_row(row)?,
                locked_until: row.try_get("lock_until")?,
                follows: row.try_get("follows")?,
                follows_case: row.try_get("follows_case")?,
            })
        };
        rows.fetch_all(self.cases.db.pool()).await?.iter().map(disposable).collect()
    }

    /// Removes a recording if its retention has run out; returns the key of the record.
    pub async fn dispose(
        &self,
        bureau: &BureauId,
        id: RecordingId,
        by: &str,
        reason: &str,
    ) -> Result<Result<String, Refused>, RegistryError> {
        self.ensure_view_is_whole().await?;
        if let Some(key) = self.record_of(bureau, id).await? {
            self.finish_all(Some(id)).await?;
            return Ok(Ok(key));
        }
        let Some(recording) = Recording::find(&self.cases.db, bureau, id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        // What the store says now is read back, and put right where it must be.
        self.keeper.settle(vec![id.to_string()]).await?;
        let Some(disposal) = self.judge(&recording, by, reason).await? else {
            return Ok(Err(self.refusal(&recording).await?));
        };
        if !self.begin(&disposal).await? {
            return Ok(Err(Refused::Retained("it changed meanwhile: ask again".into())));
        }
        self.finish_all(Some(id)).await?;
        Ok(Ok(record_key(&disposal)))
    }

    /// Nothing that protects more may be written and not known, and the date must be right.
    async fn ensure_view_is_whole(&self) -> Result<(), RegistryError> {
        if self.cases.db.is_rebuilding().await? {
            return Err(RegistryError::Rebuilding);
        }
        self.cases.clock_agrees().await?;
        self.following.catch_up().await
    }

    /// The key of the record of a recording that was removed and is not stored again.
    async fn record_of(&self, bureau: &BureauId, id: RecordingId) -> Result<Option<String>, RegistryError> {
        if gone_of(self.cases.db.pool(), &[id]).await?.is_none() {
            return Ok(None);
        }
        let row = sqlx::query("SELECT MAX(generation) FROM disposals WHERE recording_id = $1 AND bureau = $2");
        let row = row.bind(id.to_string()).bind(bureau.to_string()).fetch_one(self.cases.db.pool()).await?;
        let generation: Option<i64> = row.try_get(0)?;
        Ok(generation.map(|generation| object_key::disposal(bureau, id, generation as u32)))
    }

    /// The record to be written, if the recording may be removed.
    async fn judge(&self, recording: &Recording, by: &str, reason: &str) -> Result<Option<Disposal>, RegistryError> {
        let now = whole_seconds((self.cases.clock)());
        let statement =
            format!("SELECT lock_until, follows, follows_case FROM locks l WHERE l.subject = $2 AND {ELIGIBLE}");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(now.as_second()).bind(&recording.id);
        let Some(row) = row.fetch_optional(self.cases.db.pool()).await? else { return Ok(None) };
        let bureau: BureauId = recording.bureau.parse().map_err(malformed)?;
        let id: RecordingId = recording.id.parse().map_err(malformed)?;
        let prefix = object_key::prefix(&bureau, id, recording.generation);
        let mut removed = Vec::new();
        for prefix in [prefix, object_key::extensions(&bureau, id)] {
            for object in objects::below(&*self.cases.store, &prefix).await? {
                // A version that nobody knows may be protected by more than what was read back.
                if object.lock.hold || object.lock.until > Some(now) || !object.others.is_empty() {
                    return Ok(None);
                }
                removed.push(Removed { object_key: object.key, version: object.version });
            }
        }
        Ok(Some(Disposal {
            media_type: disposal::MEDIA_TYPE.into(),
            bureau,
            recording_id: id,
            generation: recording.generation,
            version: recording.version.clone(),
            size: recording.size,
            blake3: recording.blake3.clone().try_into().map_err(malformed)?,
            metadata: serde_json::from_str(&recording.metadata).map_err(malformed)?,
            stored_at: moment(recording.stored_at)?,
            locked_until: moment(row.try_get("lock_until")?)?,
            because: row.try_get("follows")?,
            case: row.try_get("follows_case")?,
            at: now,
            by: by.to_owned(),
            reason: reason.to_owned(),
            objects: removed,
        }))
    }

    async fn refusal(&self, recording: &Recording) -> Result<Refused, RegistryError> {
        let row = sqlx::query("SELECT lock_until, hold, follows, follows_case FROM locks WHERE subject = $1");
        let Some(row) = row.bind(&recording.id).fetch_optional(self.cases.db.pool()).await? else {
            return Ok(Refused::Unknown);
        };
        let until = row.try_get::<Option<i64>, _>(0)?.map(moment).transpose()?;
        let hold = if row.try_get::<Option<i64>, _>(1)? == Some(1) { ", and held" } else { "" };
        let follows: Option<String> = row.try_get(2)?;
        let case: Option<String> = row.try_get(3)?;
        let until = until.map_or_else(|| "a date that is not known".to_owned(), |until| until.to_string());
        let (follows, case) = (follows.unwrap_or_default(), case.map(|case| format!(" {case}")).unwrap_or_default());
        Ok(Refused::Retained(format!("locked until {until}{hold}, by {follows}{case}")))
    }

    /// In one transaction with the checks: from here on it is removed. Whoever binds it waits for this row, and is refused.
    async fn begin(&self, disposal: &Disposal) -> Result<bool, RegistryError> {
        let document = serde_json::to_string(disposal).map_err(|e| RegistryError::Entry(e.to_string()))?;
        // With room for how it is written; what is begun must be possible to finish.
        if document.len() > LIMIT / 2 {
            return Err(RegistryError::Entry("its record would be too large".into()));
        }
        let id = disposal.recording_id.to_string();
        let mut tx = self.cases.db.begin().await?;
        let statement = format!("UPDATE locks AS l SET revision = l.revision + 1 WHERE l.subject = $2 AND {ELIGIBLE}");
        let checked = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(disposal.at.as_second()).bind(&id);
        if checked.execute(&mut *tx).await?.rows_affected() != 1 {
            return Ok(false);
        }
        begin_row(&mut tx, (disposal.bureau.as_str(), &id), disposal.generation, disposal.at, &document).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Finishes what was begun: all of it, or of one recording. One that can't be finished stops no other.
    pub async fn finish_all(&self, only: Option<RecordingId>) -> Result<(), RegistryError> {
        let only = only.map(|id| id.to_string()).unwrap_or_default();
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT * FROM disposals WHERE is_done = 0 AND ($1 = '' OR recording_id = $1) AND recording_id > $2
                 ORDER BY recording_id, generation LIMIT $3",
            );
            let rows = rows.bind(&only).bind(&after).bind(PAGE).fetch_all(self.cases.db.pool()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get("recording_id")?;
            for row in &rows {
                match self.finish(row).await {
                    Err(error) if only.is_empty() => {
                        tracing::error!(%error, "a disposal can't be finished; trying again");
                    }
                    finished => finished?,
                }
            }
        }
    }

    async fn finish(&self, row: &AnyRow) -> Result<(), RegistryError> {
        let bureau: BureauId = row.try_get::<String, _>("bureau")?.parse().map_err(malformed)?;
        let id: RecordingId = row.try_get::<String, _>("recording_id")?.parse().map_err(malformed)?;
        let generation = row.try_get::<i64, _>("generation")? as u32;
        let document: String = row.try_get("document")?;
        let at = moment(row.try_get("at")?)?;
        let disposal = match document.as_str() {
            // Another database began it: the record was written before the fact.
            "" => self.cases.read_disposal(&object_key::disposal(&bureau, id, generation)).await?,
            _ => Some(serde_json::from_str::<Disposal>(&document).map_err(malformed)?),
        };
        let Some(disposal) = disposal else {
            return Err(RegistryError::Row(format!("the disposal of {id} has no record in the store")));
        };
        let disposal = self.write_record(disposal).await?;
        let key = FactKey { recording: id, generation, subject: FactSubject::Disposed };
        let fact = Fact::Disposed(Disposed { bureau: bureau.clone(), disposed_at: at });
        append_fact(&*self.log, &key, Some(&fact)).await?;
        for removed in &disposal.objects {
            self.remove(removed).await?;
        }
        let mut tx = self.cases.db.begin().await?;
        let done = sqlx::query("UPDATE disposals SET is_done = 1 WHERE recording_id = $1 AND generation = $2");
        done.bind(id.to_string()).bind(i64::from(generation)).execute(&mut *tx).await?;
        forget(&mut tx, &id.to_string(), generation).await?;
        // Footage that was stored again meanwhile keeps what was not removed.
        for removed in &disposal.objects {
            if let Some(seq) = object_key::extension_seq(&removed.object_key) {
                let gone = sqlx::query("DELETE FROM extensions WHERE recording_id = $1 AND seq = $2");
                gone.bind(id.to_string()).bind(seq as i64).execute(&mut *tx).await?;
            }
        }
        let told = RegistryEvent::Disposed(RecordingDisposed {
            recording_id: id.to_string(),
            generation,
            bureau: bureau.to_string(),
            version: disposal.version.clone(),
            record_key: record_key(&disposal),
        });
        tell(&mut tx, bureau.as_str(), &told, disposal.at).await?;
        tx.commit().await?;
        self.metrics.disposed.add(1, &[]);
        tracing::info!(recording = %id, generation, "disposed of");
        self.outbox.wake();
        Ok(())
    }

    /// The record outlives what it tells of: it is held, for ever. Where one stands there already, that counts.
    async fn write_record(&self, disposal: Disposal) -> Result<Disposal, RegistryError> {
        let key = record_key(&disposal);
        let bytes = serde_json::to_vec_pretty(&disposal).map_err(|e| RegistryError::Entry(e.to_string()))?;
        let until = end_of((self.cases.clock)(), &self.cases.locked_for)?;
        let new = NewObject { content_type: disposal::MEDIA_TYPE.into(), part_size: 0, lock_until: until };
        let lock = Lock { until: Some(until), hold: true };
        let there = create_locked(&*self.cases.store, &key, &new, Bytes::from(bytes), lock, LIMIT).await?;
        let there = there.map(|there| serde_json::from_slice(&there).map_err(malformed)).transpose()?;
        Ok(there.unwrap_or(disposal))
    }

    /// Holds the records again that an audit found without a hold.
    pub async fn hold_again(&self) -> Result<(), RegistryError> {
        let rows = sqlx::query("SELECT recording_id, bureau, generation FROM disposals WHERE is_loose = 1 LIMIT $1");
        for row in rows.bind(PAGE).fetch_all(self.cases.db.pool()).await? {
            let (id, bureau): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let generation: i64 = row.try_get(2)?;
            let (owner, of) = (bureau.parse().map_err(malformed)?, id.parse().map_err(malformed)?);
            let key = object_key::disposal(&owner, of, generation as u32);
            if let Err(error) = self.hold(&key).await {
                tracing::error!(%error, "a record of a disposal can't be held; trying again");
                continue;
            }
            let done = sqlx::query("UPDATE disposals SET is_loose = 0 WHERE recording_id = $1 AND generation = $2");
            done.bind(&id).bind(generation).execute(self.cases.db.pool()).await?;
        }
        Ok(())
    }

    async fn hold(&self, key: &str) -> Result<(), RegistryError> {
        let store = &*self.cases.store;
        if let Some(version) = oldest_version(store, key).await? {
            let until = end_of((self.cases.clock)(), &self.cases.locked_for)?;
            ensure_locked(store, key, &version.id, Lock { until: Some(until), hold: true }).await?;
        }
        Ok(())
    }

    /// One version, and the delete markers that hide it. What is gone already is what is wanted. Generations are never used
    /// twice, so these keys have nothing else.
    async fn remove(&self, removed: &Removed) -> Result<(), RegistryError> {
        let store = &*self.cases.store;
        for version in store.versions(&removed.object_key).await? {
            if version.is_delete_marker || version.id == removed.version {
                match store.delete_version(&removed.object_key, &version.id, false).await {
                    Err(error) if error.kind != ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Cases {
    /// The record of a disposal at a key.
    pub async fn read_disposal(&self, key: &str) -> Result<Option<Disposal>, RegistryError> {
        let Some((_, bytes)) = read_document(&*self.store, key, LIMIT).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| RegistryError::Entry(format!("{key}: {error}")))
    }

    /// Takes the record of a disposal that lies in the store into the database. Where something of what it tells is left, it is
    /// to be finished.
    pub async fn adopt_disposal(&self, key: &str) -> Result<(), RegistryError> {
        let Some(disposal) = self.read_disposal(key).await? else { return Ok(()) };
        let id = disposal.recording_id.to_string();
        let document = serde_json::to_string(&disposal).map_err(|e| RegistryError::Entry(e.to_string()))?;
        let mut is_left = false;
        for removed in &disposal.objects {
            is_left |= oldest_version(&*self.store, &removed.object_key).await?.is_some();
        }
        let mut tx = self.db.begin().await?;
        let begun = begin_row(&mut tx, (disposal.bureau.as_str(), &id), disposal.generation, disposal.at, &document);
        // What this database has begun itself it also finishes, and tells.
        if begun.await? && !is_left {
            let done = sqlx::query("UPDATE disposals SET is_done = 1 WHERE recording_id = $1 AND generation = $2");
            done.bind(&id).bind(i64::from(disposal.generation)).execute(&mut *tx).await?;
        }
        forget(&mut tx, &id, disposal.generation).await?;
        Ok(tx.commit().await?)
    }
}

fn record_key(disposal: &Disposal) -> String {
    object_key::disposal(&disposal.bureau, disposal.recording_id, disposal.generation)
}
