//! Events leave by an outbox: written in the transaction of what they tell, published after it, told once by their ids.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use caselock_domain::{
    event::{Envelope, EventRecord, REGISTRY, RegistryEvent},
    time::Timestamp,
};
use caselock_log::{Log, append_event};
use sqlx::{Any, Row, Transaction, any::AnyRow};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Db, Following, RegistryError, metrics::RegistryMetrics};

/// How often it is looked whether something is to be published, and how long until what failed is tried again.
const POLL: Duration = Duration::from_secs(1);
/// Events read from the outbox at once.
const PAGE: i64 = 100;

/// Whether what is written down is news, or was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It happens now: an event tells of it.
    News,
    /// It is read from the store: nothing of the past is told.
    Past,
}

/// Puts an event into the outbox, unless it was told before.
pub async fn tell(
    tx: &mut Transaction<'static, Any>,
    bureau: &str,
    event: &RegistryEvent,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let id = event.id();
    let new = sqlx::query("INSERT INTO told (event_id) VALUES ($1) ON CONFLICT DO NOTHING");
    if new.bind(&id).execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    let next = sqlx::query("UPDATE event_clock SET seq = seq + 1 RETURNING seq").fetch_one(&mut **tx).await?;
    let seq: i64 = next.try_get(0)?;
    let put = sqlx::query(
        "INSERT INTO outbox (seq, event_id, kind, subject, bureau, at, payload) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    put.bind(seq)
        .bind(&id)
        .bind(event.kind())
        .bind(event.subject())
        .bind(bureau)
        .bind(at.as_second())
        .bind(hex::encode(event.payload()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes an event of the registry's own that was found in the log: whatever database told it, it is not told again. Whether this
/// database did not know it.
pub async fn was_told(tx: &mut Transaction<'static, Any>, id: &str, seq: i64) -> Result<bool, RegistryError> {
    let new = sqlx::query("INSERT INTO told (event_id) VALUES ($1) ON CONFLICT DO NOTHING");
    let is_new = new.bind(id).execute(&mut **tx).await?.rows_affected() == 1;
    sqlx::query("DELETE FROM outbox WHERE event_id = $1").bind(id).execute(&mut **tx).await?;
    let clock = sqlx::query("UPDATE event_clock SET seq = $1 WHERE seq < $1");
    clock.bind(seq).execute(&mut **tx).await?;
    Ok(is_new)
}

/// Publishes what is in the outbox.
#[derive(Clone)]
pub struct Outbox {
    db: Db,
    log: Arc<dyn Log>,
    wake: Arc<Notify>,
    metrics: RegistryMetrics,
}

impl Outbox {
    /// The outbox of a database.
    pub fn new(db: Db, log: Arc<dyn Log>) -> Self {
        Self { db, log, wake: Arc::default(), metrics: RegistryMetrics::new() }
    }

    /// Publishes until `stop`. It begins closed: first the events are read to the end they have at the start, since another
    /// database may have told what this one finds anew.
    pub async fn run(self, following: Arc<Following>, stop: CancellationToken) {
        let work = async {
            while let Err(error) = self.open(&following).await {
                tracing::warn!(%error, "the outbox stays closed; trying again");
                tokio::time::sleep(POLL).await;
            }
            loop {
                match self.publish().await {
                    Ok(0) => drop(tokio::time::timeout(POLL, self.wake.notified()).await),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "events can't be published; trying again");
                        tokio::time::sleep(POLL).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Has it look at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Reads what was told before. What is in the outbox now comes after it.
    pub async fn open(&self, following: &Following) -> Result<(), RegistryError> {
        following.catch_up().await?;
        // A database that was made anew counts from 1: what it has to tell goes behind what it has read by now.
        let mut tx = self.db.begin().await?;
        let clock = sqlx::query("SELECT seq FROM event_clock").fetch_one(&mut *tx).await?;
        let last: i64 = clock.try_get(0)?;
        let behind = sqlx::query("UPDATE outbox SET seq = seq + $1").bind(last).execute(&mut *tx).await?;
        if behind.rows_affected() > 0 {
            sqlx::query("UPDATE event_clock SET seq = (SELECT MAX(seq) FROM outbox)").execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Publishes some, in order; returns how many.
    pub async fn publish(&self) -> Result<usize, RegistryError> {
        if self.db.is_rebuilding().await? {
            return Ok(0);
        }
        let rows = sqlx::query("SELECT * FROM outbox ORDER BY seq LIMIT $1");
        let rows = rows.bind(PAGE).fetch_all(self.db.pool()).await?;
        for row in &rows {
            let (seq, record) = record(row)?;
            append_event(&*self.log, record, None).await?;
            self.metrics.published.add(1, &[]);
            let sent = sqlx::query("DELETE FROM outbox WHERE seq = $1");
            sent.bind(seq).execute(self.db.pool()).await?;
        }
        Ok(rows.len())
    }
}

fn record(row: &AnyRow) -> Result<(i64, EventRecord), RegistryError> {
    let malformed = |error: &dyn std::fmt::Display| RegistryError::Row(format!("an event in the outbox: {error}"));
    let (seq, kind): (i64, String) = (row.try_get("seq")?, row.try_get("kind")?);
    let (bureau, payload): (String, String) = (row.try_get("bureau")?, row.try_get("payload")?);
    let at = Timestamp::from_second(row.try_get("at")?).map_err(|error| malformed(&error))?;
    let payload: Bytes = hex::decode(payload).map_err(|error| malformed(&error))?.into();
    let envelope = Envelope {
        id: row.try_get("event_id")?,
        source: format!("/caselock/bureaus/{bureau}{REGISTRY}"),
        kind: &kind,
        subject: row.try_get("subject")?,
        at,
        sequence: seq as u64,
    };
    Ok((seq, EventRecord::new(envelope, payload)))
}
