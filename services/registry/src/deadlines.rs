//! By when recordings must be stored (Article 13): announced, opened or stored. Told once when that is near, and once when it
//! was missed.

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    deadline::{Deadline, Standing},
    event::RegistryEvent,
    flag::Flag,
    id::{BureauId, RecordingId},
    metadata::Metadata,
    time::{Clock, Timestamp, to_proto},
};
use caselock_proto::events::v1::{DeadlineMissed, DeadlineNear};
use jiff::SignedDuration;
use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};
use tokio_util::sync::CancellationToken;

use crate::{
    Db, Following, RegistryError, Rules, attention, moment,
    outbox::{Outbox, Telling, tell},
};

/// How often it is looked whether a deadline is near or missed.
const POLL: Duration = Duration::from_secs(1);
/// Deadlines judged at once.
const PAGE: i64 = 500;
/// What is stored has the time it was stored at in the log so long after it, at the latest: only then a deadline is missed.
const CERTAIN: SignedDuration = SignedDuration::from_mins(2);

/// Where it is known from that a recording must come. What is stored counts most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Its bureau announced it.
    Announced = 1,
    /// Its upload was opened.
    Opened = 2,
    /// It is stored.
    Stored = 3,
}

/// A recording's deadline, as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The recording.
    pub recording_id: String,
    /// The bureau.
    pub bureau: String,
    /// The name the device gave.
    pub original_name: String,
    /// 科室.
    pub unit: String,
    /// 设备编号.
    pub device_id: Option<String>,
    /// When the process on the site ended, or else the recording.
    pub ended_at: Timestamp,
    /// By when.
    pub deadline: Deadline,
    /// How often that was extended.
    pub extensions: u32,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
}

impl Awaited {
    /// How it stands.
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.deadline.standing(self.stored_at, now)
    }

    fn of_row(row: &AnyRow) -> Result<Self, RegistryError> {
        let optional = |column: &str| row.try_get::<Option<i64>, _>(column)?.map(moment).transpose();
        let deadline = Deadline {
            due: moment(row.try_get("due")?)?,
            is_provisional: row.try_get::<i64, _>("provisional")? != 0,
            extended_to: optional("extended_to")?,
        };
        Ok(Self {
            recording_id: row.try_get("recording_id")?,
            bureau: row.try_get("bureau")?,
            original_name: row.try_get("original_name")?,
            unit: row.try_get("unit")?,
            device_id: row.try_get("device_id")?,
            ended_at: moment(row.try_get("ended_at")?)?,
            deadline,
            extensions: row.try_get::<i64, _>("extensions")? as u32,
            stored_at: optional("stored_at")?,
        })
    }

    /// A recording's deadline, if it has one and is the bureau's.
    pub async fn find(db: &Db, bureau: &BureauId, id: RecordingId) -> Result<Option<Self>, RegistryError> {
        let row = sqlx::query("SELECT * FROM deadlines WHERE recording_id = $1 AND bureau = $2");
        let row = row.bind(id.to_string()).bind(bureau.to_string()).fetch_optional(db.pool()).await?;
        row.as_ref().map(Self::of_row).transpose()
    }

    /// The deadlines of these recordings.
    pub(crate) async fn of_all(db: &Db, ids: &[String]) -> Result<Vec<Self>, RegistryError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<_> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        let statement = format!("SELECT * FROM deadlines WHERE recording_id IN ({})", places.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for id in ids {
            query = query.bind(id);
        }
        query.fetch_all(db.pool()).await?.iter().map(Self::of_row).collect()
    }

    /// A page of a bureau's deadlines, the earliest first, after one: its last moment and id. `now` parts what is awaited from
    /// what is overdue.
    pub async fn list(
        db: &Db,
        bureau: &BureauId,
        standing: Option<Standing>,
        now: Timestamp,
        after: &(i64, String),
        limit: u32,
    ) -> Result<Vec<Self>, RegistryError> {
        // As `Deadline::standing` says it; a test holds them together.
        let condition = match standing {
            None => "$3 = $3",
            Some(Standing::Awaited) => "stored_at IS NULL AND last_moment >= $3",
            Some(Standing::Overdue) => "stored_at IS NULL AND last_moment < $3",
            Some(Standing::OnTime) => "$3 = $3 AND stored_at <= due",
            Some(Standing::Extended) => "$3 = $3 AND stored_at > due AND stored_at <= last_moment",
            Some(Standing::Late) => "$3 = $3 AND stored_at > last_moment",
        };
        let statement = format!(
            "SELECT * FROM deadlines WHERE bureau = $1 AND (last_moment, recording_id) > ($4, $2) AND {condition}
             ORDER BY last_moment, recording_id LIMIT $5"
        );
        // Made of nothing but the words above.
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(bureau.to_string()).bind(&after.1);
        let rows = rows.bind(now.as_second()).bind(after.0).bind(i64::from(limit)).fetch_all(db.pool()).await?;
        rows.iter().map(Self::of_row).collect()
    }
}

/// The word for how a recording stands.
pub fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Awaited => "awaited",
        Standing::OnTime => "on_time",
        Standing::Extended => "extended",
        Standing::Late => "late",
        Standing::Overdue => "overdue",
    }
}

/// Notes that a recording must come, or has. What was known from a lesser origin is replaced.
pub async fn expect(
    tx: &mut Transaction<'static, Any>,
    rules: &Rules,
    (bureau, id): (&str, &str),
    metadata: &Metadata,
    (origin, stored_at): (Origin, Option<Timestamp>),
    telling: Telling,
) -> Result<(), RegistryError> {
    let Some(ended_at) = Deadline::counts_from(metadata) else { return Ok(()) };
    let deadline = match Deadline::after(ended_at, &rules.calendar) {
        Ok(deadline) => deadline,
        // A device's clock may say anything; no deadline follows from a date beyond all calendars.
        Err(error) => {
            tracing::warn!(recording = id, %error, "no deadline can be reckoned");
            return Ok(());
        }
    };
    let noted = sqlx::query(
        "INSERT INTO deadlines (recording_id, bureau, origin, original_name, unit, device_id, ended_at, due, provisional,
             calendar, extensions, last_moment, stored_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $8, $11)
         ON CONFLICT (recording_id) DO UPDATE SET origin = excluded.origin, original_name = excluded.original_name,
             unit = excluded.unit, device_id = excluded.device_id, ended_at = excluded.ended_at, due = excluded.due,
             provisional = excluded.provisional, calendar = excluded.calendar,
             stored_at = coalesce(excluded.stored_at, deadlines.stored_at)
         WHERE excluded.origin > deadlines.origin",
    )
    .bind(id)
    .bind(bureau)
    .bind(origin as i64)
    .bind(&metadata.original_name)
    .bind(&metadata.unit)
    .bind(&metadata.device_id)
    .bind(ended_at.as_second())
    .bind(deadline.due.as_second())
    .bind(i64::from(deadline.is_provisional))
    .bind(&rules.calendar.version)
    .bind(stored_at.map(Timestamp::as_second))
    .execute(&mut **tx)
    .await?;
    if noted.rows_affected() == 0 { Ok(()) } else { settle(tx, id, telling).await }
}

/// Whether a deadline is known.
pub async fn is_known(tx: &mut Transaction<'static, Any>, id: &str) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM deadlines WHERE recording_id = $1").bind(id);
    Ok(row.fetch_optional(&mut **tx).await?.is_some())
}

/// Notes when a recording was stored: the first time that is said.
pub async fn arrived(tx: &mut Transaction<'static, Any>, id: &str, at: Timestamp) -> Result<(), RegistryError> {
    let arrived = sqlx::query("UPDATE deadlines SET stored_at = $1 WHERE recording_id = $2 AND stored_at IS NULL");
    let arrived = arrived.bind(at.as_second()).bind(id).execute(&mut **tx).await?;
    if arrived.rows_affected() == 0 { Ok(()) } else { settle(tx, id, Telling::News).await }
}

/// Reckons anew what follows from a deadline's extensions and from when the recording was stored.
pub async fn settle(tx: &mut Transaction<'static, Any>, id: &str, telling: Telling) -> Result<(), RegistryError> {
    let extensions = sqlx::query(
        "UPDATE deadlines SET
             extended_to = (SELECT MAX(until) FROM extensions WHERE recording_id = $1 AND is_written = 1),
             extensions = (SELECT COUNT(*) FROM extensions WHERE recording_id = $1 AND is_written = 1)
         WHERE recording_id = $1",
    );
    extensions.bind(id).execute(&mut **tx).await?;
    let row = sqlx::query("SELECT * FROM deadlines WHERE recording_id = $1").bind(id);
    let Some(row) = row.fetch_optional(&mut **tx).await? else { return Ok(()) };
    let awaited = Awaited::of_row(&row)?;
    let last = sqlx::query("UPDATE deadlines SET last_moment = $1 WHERE recording_id = $2");
    last.bind(awaited.deadline.last_moment().as_second()).bind(id).execute(&mut **tx).await?;
    let Some(stored_at) = awaited.stored_at else { return Ok(()) };
    let standing = awaited.standing(stored_at);
    let gone = sqlx::query("DELETE FROM facets WHERE recording_id = $1 AND facet = 'deadline'");
    gone.bind(id).execute(&mut **tx).await?;
    let facet = sqlx::query(
        "INSERT INTO facets (bureau, facet, value, used_at, recording_id)
         SELECT bureau, 'deadline', $1, used_at, id FROM recordings WHERE id = $2",
    );
    facet.bind(word(standing)).bind(id).execute(&mut **tx).await?;
    let late = attention::Subject::Recording { id, bureau: &awaited.bureau };
    if standing == Standing::Late {
        let detail = format!("stored {stored_at}, due {}", awaited.deadline.last_moment());
        attention::raise(tx, late, Flag::Late, &detail, stored_at, telling).await
    } else {
        attention::clear(tx, late, Flag::Late).await
    }
}

/// Judges deadlines as time passes.
pub struct Judge {
    /// The database.
    pub db: Db,
    /// What facts and events are read by before anything is judged.
    pub following: Arc<Following>,
    /// Where it is told.
    pub outbox: Outbox,
    /// The clock.
    pub clock: Clock,
    /// What deadlines are reckoned by.
    pub rules: Arc<Rules>,
}

impl Judge {
    /// Judges until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            while let Err(error) = self.reckon_anew().await {
                tracing::warn!(%error, "deadlines can't be brought to the calendar; trying again");
                tokio::time::sleep(POLL).await;
            }
            loop {
                if let Err(error) = self.judge().await {
                    tracing::warn!(%error, "deadlines can't be judged; trying again");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Tells of deadlines that are near or were missed, once each. Nothing is judged by a view that may be behind: first facts
    /// and events are read to an end sampled now, which is after what is judged.
    pub async fn judge(&self) -> Result<usize, RegistryError> {
        let now = (self.clock)();
        if self.db.is_rebuilding().await?
            || (self.due(Notice::Near, now).await?.is_empty() && self.due(Notice::Missed, now).await?.is_empty())
        {
            return Ok(0);
        }
        self.following.cases.clock_agrees().await?;
        self.following.catch_up().await?;
        let mut told = 0;
        for notice in [Notice::Near, Notice::Missed] {
            for awaited in self.due(notice, now).await? {
                told += usize::from(self.tell(notice, &awaited, now).await?);
            }
        }
        self.outbox.wake();
        Ok(told)
    }

    async fn due(&self, notice: Notice, now: Timestamp) -> Result<Vec<Awaited>, RegistryError> {
        let (from, until) = match notice {
            Notice::Near => (now, now.checked_add(self.rules.near)?),
            Notice::Missed => (Timestamp::UNIX_EPOCH, now.checked_sub(CERTAIN)?),
        };
        let column = notice.column();
        let statement = format!(
            "SELECT * FROM deadlines WHERE stored_at IS NULL AND last_moment > $1 AND last_moment <= $2
             AND ({column} IS NULL OR {column} <> last_moment) ORDER BY last_moment LIMIT $3"
        );
        // Made of nothing but the words above.
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(from.as_second()).bind(until.as_second()).bind(PAGE);
        rows.fetch_all(self.db.pool()).await?.iter().map(Awaited::of_row).collect()
    }

    /// In one step with the check that it still stands so.
    async fn tell(&self, notice: Notice, awaited: &Awaited, now: Timestamp) -> Result<bool, RegistryError> {
        let Awaited { recording_id, bureau, deadline, extensions, .. } = awaited;
        let last = deadline.last_moment();
        let mut tx = self.db.begin().await?;
        let statement = format!(
            "UPDATE deadlines SET {} = last_moment WHERE recording_id = $1 AND stored_at IS NULL AND last_moment = $2
             AND extensions = $3",
            notice.column()
        );
        let noted = sqlx::query(AssertSqlSafe(statement)).bind(recording_id).bind(last.as_second());
        if noted.bind(i64::from(*extensions)).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let (recording_id, bureau) = (recording_id.clone(), bureau.clone());
        let (due, provisional, extensions) = (Some(to_proto(last)), deadline.is_provisional, *extensions);
        let (event, at) = match notice {
            Notice::Near => {
                let near = DeadlineNear { recording_id, bureau, due, provisional, extensions };
                (RegistryEvent::DeadlineNear(near), now)
            }
            Notice::Missed => {
                let missed = DeadlineMissed { recording_id, bureau, due, provisional, extensions };
                (RegistryEvent::DeadlineMissed(missed), last)
            }
        };
        tell(&mut tx, &awaited.bureau, &event, at).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Deadlines that were reckoned by another calendar.
    pub async fn reckon_anew(&self) -> Result<(), RegistryError> {
        let version = &self.rules.calendar.version;
        loop {
            let rows =
                sqlx::query("SELECT * FROM deadlines WHERE calendar <> $1 ORDER BY calendar, recording_id LIMIT $2");
            let rows = rows.bind(version).bind(PAGE).fetch_all(self.db.pool()).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut tx = self.db.begin().await?;
            for awaited in rows.iter().map(Awaited::of_row).collect::<Result<Vec<_>, _>>()? {
                let deadline = Deadline::after(awaited.ended_at, &self.rules.calendar)?;
                let anew = sqlx::query(
                    "UPDATE deadlines SET due = $1, provisional = $2, calendar = $3 WHERE recording_id = $4",
                );
                let anew = anew.bind(deadline.due.as_second()).bind(i64::from(deadline.is_provisional));
                anew.bind(version).bind(&awaited.recording_id).execute(&mut *tx).await?;
                settle(&mut tx, &awaited.recording_id, Telling::News).await?;
            }
            tx.commit().await?;
        }
    }
}

/// What is told of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    Near,
    Missed,
}

impl Notice {
    fn column(self) -> &'static str {
        match self {
            Self::Near => "near_told",
            Self::Missed => "missed_told",
        }
    }
}
