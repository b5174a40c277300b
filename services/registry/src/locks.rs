//! What is protected as one, and what is known of its protection: the rows of `locks`.

use caselock_domain::{
    case::{CaseId, CaseNumber, Kept, Status},
    id::{BureauId, RecordingId},
    object_key,
    retention::rule::{Because, Bond},
    time::Timestamp,
};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use crate::{Db, RegistryError};

/// A recording's generation with all that lies beside it, or the record of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The recording's or the case's id.
    pub id: String,
    /// The bureau.
    pub bureau: BureauId,
    /// What its keys in the store begin with.
    pub prefix: String,
    /// The end of the least period.
    pub floor: Timestamp,
    /// The cases it is evidence in, or the case itself.
    pub bonds: Vec<Bond>,
    /// The revision of its row.
    pub revision: i64,
    /// When a hold began to be taken off that may still be on its way.
    pub off_sent_at: Option<Timestamp>,
}

impl Subject {
    /// Reads it.
    pub async fn load(db: &Db, id: &str) -> Result<Option<Self>, RegistryError> {
        let row = sqlx::query("SELECT kind, bureau, revision, off_sent_at FROM locks WHERE subject = $1");
        let Some(row) = row.bind(id).fetch_optional(db.pool()).await? else { return Ok(None) };
        let (kind, bureau): (String, String) = (row.try_get("kind")?, row.try_get("bureau")?);
        let bureau: BureauId = bureau.parse().map_err(malformed)?;
        let off_sent_at = row.try_get::<Option<i64>, _>("off_sent_at")?.map(moment).transpose()?;
        let (prefix, floor, bonds) = match kind.as_str() {
            "recording" => match recording(db, &bureau, id).await? {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => match case(db, &bureau, id).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let (id, revision) = (id.to_owned(), row.try_get("revision")?);
        Ok(Some(Self { id, bureau, prefix, floor, bonds, revision, off_sent_at }))
    }

    /// Ids and revisions of subjects that are to be looked at by now, the longest overdue first.
    pub async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<(String, i64)>, RegistryError> {
        let rows =
            sqlx::query("SELECT subject, revision FROM locks WHERE look_at <= $1 ORDER BY look_at, subject LIMIT $2");
        let rows = rows.bind(now.as_second()).bind(limit).fetch_all(db.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

async fn recording(
    db: &Db,
    bureau: &BureauId,
    id: &str,
) -> Result<Option<(String, Timestamp, Vec<Bond>)>, RegistryError> {
    let row = sqlx::query("SELECT generation, floor_until, case_number FROM recordings WHERE id = $1");
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
    Ok(Some((prefix, moment(row.try_get("floor_until")?)?, bonds)))
}

async fn case(db: &Db, bureau: &BureauId, id: &str) -> Result<Option<(String, Timestamp, Vec<Bond>)>, RegistryError> {
    let row = sqlx::query("SELECT number, status, kept_until FROM cases WHERE id = $1").bind(id);
    let Some(row) = row.fetch_optional(db.pool()).await? else { return Ok(None) };
    let own = bond(&row)?;
    let prefix = object_key::case(bureau, CaseId::derive(bureau, &own.number));
    // Each entry got its own least date when it was written.
    Ok(Some((prefix, Timestamp::UNIX_EPOCH, vec![own])))
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
        Because::PermanentCase(number) => ("permanent_case", Some(number.as_str())),
    }
}

fn moment(seconds: i64) -> Result<Timestamp, RegistryError> {
    Timestamp::from_second(seconds).map_err(malformed)
}

fn malformed(error: impl ToString) -> RegistryError {
    RegistryError::Row(error.to_string())
}
