//! What is protected as one, and what is known of its protection: the rows of `locks`.

use caselock_domain::{
    case::{CaseId, CaseNumber, Kept, Status},
    event::RegistryEvent,
    id::{BureauId, RecordingId},
    object_key,
    retention::rule::{Because, Bond},
    time::{Timestamp, to_proto},
};
use caselock_proto::events::v1::RetentionChanged;
use caselock_store::Lock;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use crate::{Db, Recording, RegistryError, malformed, moment, outbox::tell};

/// A recording's generation with all that lies beside it, or the record of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The recording's or the case's id.
    pub id: String,
    /// The bureau.
    pub bureau: BureauId,
    /// What its keys in the store begin with.
    pub prefix: String,
    /// What the extensions of its deadline begin with, of a recording.
    pub extensions: Option<String>,
    /// The end of the least period.
    pub floor: Timestamp,
    /// The cases it is evidence in, or the case itself.
    pub bonds: Vec<Bond>,
    /// The revision of its row.
    pub revision: i64,
    /// When a hold began to be taken off that may still be on its way.
    pub off_sent_at: Option<Timestamp>,
    /// What was read back last: the least date, and whether all was held.
    pub read_back: Option<Lock>,
    /// When that was, in seconds since 1970; 0 before.
    pub kept_at: i64,
    /// Whether nothing has changed since.
    pub is_kept: bool,
    /// When it was stored, of a recording.
    pub stored_at: Option<Timestamp>,
}

/// What [`Subject::load`] finds in other rows.
struct Loaded {
    prefix: String,
    extensions: Option<String>,
    floor: Timestamp,
    bonds: Vec<Bond>,
    stored_at: Option<Timestamp>,
}

impl Subject {
    /// Reads it.
    pub async fn load(db: &Db, id: &str) -> Result<Option<Self>, RegistryError> {
        let row = sqlx::query("SELECT * FROM locks WHERE subject = $1");
        let Some(row) = row.bind(id).fetch_optional(db.pool()).await? else { return Ok(None) };
        let (kind, bureau): (String, String) = (row.try_get("kind")?, row.try_get("bureau")?);
        let bureau: BureauId = bureau.parse().map_err(malformed)?;
        let off_sent_at = row.try_get::<Option<i64>, _>("off_sent_at")?.map(moment).transpose()?;
        let read_back = row.try_get::<Option<i64>, _>("lock_until")?.map(|until| {
            Ok::<_, RegistryError>(Lock {
                until: Some(moment(until)?),
                hold: row.try_get::<Option<i64>, _>("hold")? == Some(1),
            })
        });
        let loaded = match kind.as_str() {
            "recording" => match recording(db, &bureau, id).await? {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => match case(db, &bureau, id).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let Loaded { prefix, extensions, floor, bonds, stored_at } = loaded;
        Ok(Some(Self {
            id: id.to_owned(),
            bureau,
            prefix,
            extensions,
            floor,
            bonds,
            revision: row.try_get("revision")?,
            off_sent_at,
            read_back: read_back.transpose()?,
            kept_at: row.try_get::<Option<i64>, _>("kept_at")?.unwrap_or_default(),
            is_kept: row.try_get::<Option<i64>, _>("kept_revision")? == Some(row.try_get("revision")?),
            stored_at,
        }))
    }

    /// Ids and revisions of subjects that are to be looked at by now, the longest overdue first.
    pub async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<(String, i64)>, RegistryError> {
        let rows =
            sqlx::query("SELECT subject, revision FROM locks WHERE look_at <= $1 ORDER BY look_at, subject LIMIT $2");
        let rows = rows.bind(now.as_second()).bind(limit).fetch_all(db.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

async fn recording(db: &Db, bureau: &BureauId, id: &str) -> Result<Option<Loaded>, RegistryError> {
    // What is being removed is protected by nothing any more, and stands in the way of nothing.
    let row = sqlx::query(
        "SELECT generation, floor_until, case_number, stored_at FROM recordings r WHERE id = $1
         AND NOT EXISTS (SELECT 1 FROM disposals d WHERE d.recording_id = r.id AND d.is_done = 0)",
    );
    let Some(row) = row.bind(id).fetch_optional(db.pool()).await? else { return Ok(None) };
    let generation = row.try_get::<i64, _>("generation")? as u32;
    let own: RecordingId = id.parse().map_err(malformed)?;
    let prefix = object_key::prefix(bureau, own, generation);
    let named: Option<String> = row.try_get("case_number")?;
    // Two lookups, each by an index, instead of one OR that has none.
    let rows = sqlx::query(
        "SELECT c.number, c.status, c.kept_until FROM evidence e JOIN cases c ON c.id = e.case_id
         WHERE e.recording_id = $1
         UNION SELECT number, status, kept_until FROM cases WHERE bureau = $2 AND number = $3",
    );
    let rows = rows.bind(id).bind(bureau.to_string()).bind(&named).fetch_all(db.pool()).await?;
    let mut bonds = rows.iter().map(bond).collect::<Result<Vec<_>, _>>()?;
    if let Some(number) = named
        && !bonds.iter().any(|bond| bond.number.as_str() == number)
    {
        bonds.push(Bond { number: CaseNumber::try_from(number).map_err(malformed)?, status: None });
    }
    let (floor, stored_at) = (moment(row.try_get("floor_until")?)?, moment(row.try_get("stored_at")?)?);
    let extensions = Some(object_key::extensions(bureau, own));
    Ok(Some(Loaded { prefix, extensions, floor, bonds, stored_at: Some(stored_at) }))
}

async fn case(db: &Db, bureau: &BureauId, id: &str) -> Result<Option<Loaded>, RegistryError> {
    let row = sqlx::query("SELECT number, status, kept_until FROM cases WHERE id = $1").bind(id);
    let Some(row) = row.fetch_optional(db.pool()).await? else { return Ok(None) };
    let own = bond(&row)?;
    let prefix = object_key::case(bureau, CaseId::derive(bureau, &own.number));
    // Each entry got its own least date when it was written.
    let (floor, bonds) = (Timestamp::UNIX_EPOCH, vec![own]);
    Ok(Some(Loaded { prefix, extensions: None, floor, bonds, stored_at: None }))
}

fn bond(row: &AnyRow) -> Result<Bond, RegistryError> {
    let (number, status): (String, String) = (row.try_get("number")?, row.try_get("status")?);
    let status = match (status.as_str(), row.try_get::<Option<i64>, _>("kept_until")?) {
        ("permanent", _) => Status::Closed(Kept::Permanently),
        ("closed", Some(until)) => Status::Closed(Kept::Until { until: moment(until)? }),
        _ => Status::Open,
    };
    Ok(Bond { number: CaseNumber::try_from(number).map_err(malformed)?, status: Some(status) })
}

/// Notes that what the rule says of a recording may have changed.
pub async fn touch_recording(tx: &mut Transaction<'static, Any>, id: &str, bureau: &str) -> Result<(), RegistryError> {
    touch(tx, "recording", id, bureau).await
}

/// Notes that the record of a case has changed, and with it what the rule says of all that is evidence in it.
pub async fn touch_case(
    tx: &mut Transaction<'static, Any>,
    id: &str,
    bureau: &str,
    number: &str,
) -> Result<(), RegistryError> {
    touch(tx, "case", id, bureau).await?;
    let evidence = sqlx::query(
        "UPDATE locks SET revision = revision + 1, look_at = 0
         WHERE subject IN (SELECT recording_id FROM evidence WHERE case_id = $1)",
    );
    evidence.bind(id).execute(&mut **tx).await?;
    let named = sqlx::query(
        "UPDATE locks SET revision = revision + 1, look_at = 0
         WHERE subject IN (SELECT id FROM recordings WHERE bureau = $1 AND case_number = $2)",
    );
    named.bind(bureau).bind(number).execute(&mut **tx).await?;
    Ok(())
}

/// Notes, of recordings that are known, that what the rule says may change, or that something new lies beside them.
pub async fn touch_known(tx: &mut Transaction<'static, Any>, ids: &[RecordingId]) -> Result<(), RegistryError> {
    for id in ids {
        let touched = sqlx::query("UPDATE locks SET revision = revision + 1, look_at = 0 WHERE subject = $1");
        touched.bind(id.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn touch(tx: &mut Transaction<'static, Any>, kind: &str, id: &str, bureau: &str) -> Result<(), RegistryError> {
    let touched = sqlx::query(
        "INSERT INTO locks (subject, kind, bureau, revision, look_at) VALUES ($1, $2, $3, 1, 0)
         ON CONFLICT (subject) DO UPDATE SET revision = locks.revision + 1, look_at = 0",
    );
    touched.bind(id).bind(kind).bind(bureau).execute(&mut **tx).await?;
    Ok(())
}

/// What a date follows from, as it stands in a row.
pub fn words(because: &Because) -> (&'static str, Option<&str>) {
    match because {
        Because::Floor => ("floor", None),
        Because::OpenCase(number) => ("open_case", Some(number.as_str())),
        Because::ClosedCase(number) => ("closed_case", Some(number.as_str())),
        Because::EarlierLock => ("earlier_lock", None),
        Because::PermanentCase(number) => ("permanent_case", Some(number.as_str())),
    }
}

/// What is told of a lock, in the form that the row `told` has.
fn telling(until: i64, hold: bool, follows: &str, case: Option<&str>) -> String {
    format!("{until} {} {follows} {}", i64::from(hold), case.unwrap_or_default())
}

/// What the event of a recording's storing said of its lock. What it follows from then is the floor, or a case that is open.
pub async fn begins_with(tx: &mut Transaction<'static, Any>, recording: &Recording) -> Result<(), RegistryError> {
    let follows = if recording.hold_at_storing { "open_case" } else { "floor" };
    let case = recording.case_number.as_deref().filter(|_| recording.hold_at_storing);
    let told = telling(recording.floor_until, recording.hold_at_storing, follows, case);
    let begins = sqlx::query("UPDATE locks SET told = $1 WHERE subject = $2 AND told IS NULL");
    begins.bind(told).bind(&recording.id).execute(&mut **tx).await?;
    Ok(())
}

/// What an event found in the log said of a lock. A database that was made anew need not say the same again.
pub async fn was_told(tx: &mut Transaction<'static, Any>, changed: &RetentionChanged) -> Result<(), RegistryError> {
    let until = changed.locked_until.as_ref().map_or(0, |until| until.seconds);
    let case = Some(changed.case_number.as_str()).filter(|case| !case.is_empty());
    let told = sqlx::query("UPDATE locks SET told = $1 WHERE subject = $2");
    let told = told.bind(telling(until, changed.legal_hold, &changed.because, case)).bind(&changed.recording_id);
    told.execute(&mut **tx).await?;
    let payload = hex::encode(prost::Message::encode_to_vec(changed));
    let gone = sqlx::query("DELETE FROM outbox WHERE subject = $1 AND payload = $2");
    gone.bind(&changed.recording_id).bind(payload).execute(&mut **tx).await?;
    Ok(())
}

/// Tells what protects a recording now, where that is another than was told. Where nothing was told, nothing is: that is past.
pub async fn tell_change(
    tx: &mut Transaction<'static, Any>,
    subject: &Subject,
    lock: Lock,
    because: &Because,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let (follows, case) = words(because);
    let until = lock.until.map_or(0, Timestamp::as_second);
    let now = telling(until, lock.hold, follows, case);
    let row = sqlx::query("SELECT told FROM locks WHERE subject = $1").bind(&subject.id).fetch_one(&mut **tx).await?;
    let before: Option<String> = row.try_get(0)?;
    if before.as_ref() == Some(&now) {
        return Ok(());
    }
    let note = sqlx::query("UPDATE locks SET told = $1 WHERE subject = $2");
    note.bind(&now).bind(&subject.id).execute(&mut **tx).await?;
    if before.is_none() || subject.stored_at.is_none() {
        return Ok(());
    }
    let changed = RetentionChanged {
        recording_id: subject.id.clone(),
        bureau: subject.bureau.to_string(),
        locked_until: lock.until.map(to_proto),
        legal_hold: lock.hold,
        because: follows.to_owned(),
        case_number: case.unwrap_or_default().to_owned(),
    };
    // Revisions begin anew with a database that is rebuilt: only with the time they tell one change from every other.
    let change = format!("{}/{}/{now}", subject.revision, at.as_second());
    let event = RegistryEvent::RetentionChanged(changed, change);
    tell(tx, subject.bureau.as_str(), &event, at).await
}
