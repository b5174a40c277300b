//! Flags: what a person should look at. Raised once, told once, and taken back where what they say is no longer so.

use caselock_domain::{
    event::{FlagSubject, RegistryEvent},
    flag::{Flag, of_metadata},
    id::BureauId,
    metadata::Metadata,
    time::Timestamp,
};
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use crate::{
    Db, Recording, RegistryError, Rules, moment,
    outbox::{Telling, tell},
};

/// Recordings of one number that are looked at when the one before them comes.
const AGAIN: i64 = 20;

/// What a flag is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A recording.
    Recording {
        /// Its id.
        id: &'a str,
        /// Its bureau.
        bureau: &'a str,
    },
    /// A case.
    Case {
        /// Its id.
        id: &'a str,
        /// Its bureau.
        bureau: &'a str,
    },
}

impl Subject<'_> {
    fn id(&self) -> &str {
        let (Self::Recording { id, .. } | Self::Case { id, .. }) = self;
        id
    }
}

/// A flag that is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Which.
    pub flag: Flag,
    /// In more words.
    pub detail: String,
    /// When it was raised.
    pub at: Timestamp,
}

/// Raises a flag, unless it is raised.
pub async fn raise(
    tx: &mut Transaction<'static, Any>,
    subject: Subject<'_>,
    flag: Flag,
    detail: &str,
    at: Timestamp,
    telling: Telling,
) -> Result<(), RegistryError> {
    let new = sqlx::query(
        "INSERT INTO flags (subject, flag, detail, raised_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    let new = new.bind(subject.id()).bind(flag.as_str()).bind(detail).bind(at.as_second());
    let is_new = new.execute(&mut **tx).await?.rows_affected() == 1;
    if !is_new {
        // The same thing, perhaps by now in other words: a gap that was filled in part.
        let words = sqlx::query("UPDATE flags SET detail = $1 WHERE subject = $2 AND flag = $3");
        words.bind(detail).bind(subject.id()).bind(flag.as_str()).execute(&mut **tx).await?;
    }
    // Where the recording comes after its flag, its facet is still to be written.
    let (of, bureau) = match subject {
        Subject::Recording { id, bureau } => {
            let facet = sqlx::query(
                "INSERT INTO facets (bureau, facet, value, used_at, recording_id)
                 SELECT bureau, 'flag', $1, used_at, id FROM recordings WHERE id = $2 ON CONFLICT DO NOTHING",
            );
            facet.bind(flag.as_str()).bind(id).execute(&mut **tx).await?;
            (FlagSubject::Recording(id), bureau)
        }
        Subject::Case { id, bureau } => (FlagSubject::Case(id), bureau),
    };
    if is_new && telling == Telling::News {
        let bureau: BureauId = bureau.parse().map_err(|e| RegistryError::Row(format!("{e}")))?;
        tell(tx, bureau.as_str(), &RegistryEvent::flag(&bureau, of, flag, detail), at).await?;
    }
    Ok(())
}

/// Takes a flag back.
pub async fn clear(tx: &mut Transaction<'static, Any>, subject: Subject<'_>, flag: Flag) -> Result<(), RegistryError> {
    for statement in [
        "DELETE FROM flags WHERE subject = $1 AND flag = $2",
        "DELETE FROM facets WHERE recording_id = $1 AND facet = 'flag' AND value = $2",
    ] {
        sqlx::query(statement).bind(subject.id()).bind(flag.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Raises what a recording's own metadata gives reason for, and looks for gaps around its file's number.
pub async fn of_recording(
    tx: &mut Transaction<'static, Any>,
    rules: &Rules,
    recording: &Recording,
    metadata: &Metadata,
    telling: Telling,
) -> Result<(), RegistryError> {
    let subject = Subject::Recording { id: &recording.id, bureau: &recording.bureau };
    let stored_at = moment(recording.stored_at)?;
    for (flag, detail) in of_metadata(metadata, stored_at, rules.tolerance) {
        raise(tx, subject, flag, &detail, stored_at, telling).await?;
    }
    let number = rules.number_of(&recording.original_name);
    let (Some(device), Some((series, number))) = (&recording.device_id, number) else { return Ok(()) };
    let put = sqlx::query(
        "INSERT INTO file_numbers (bureau, device_id, series, number, recording_id) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    );
    let put = put.bind(&recording.bureau).bind(device).bind(&series).bind(number).bind(&recording.id);
    put.execute(&mut **tx).await?;
    // Files come in any order: this one may be behind a gap, and may be what was missing before the next one.
    let series = Series { bureau: &recording.bureau, device, series: &series };
    gap(tx, &series, (number, &recording.id), stored_at, telling).await?;
    if let Some(next) = series.neighbour(tx, number, Side::After).await? {
        for id in series.recordings(tx, next).await? {
            gap(tx, &series, (next, &id), stored_at, telling).await?;
        }
    }
    Ok(())
}

/// The files that a device counts under one name.
struct Series<'a> {
    bureau: &'a str,
    device: &'a str,
    series: &'a str,
}

#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

impl Series<'_> {
    /// The number next to one.
    async fn neighbour(
        &self,
        tx: &mut Transaction<'static, Any>,
        number: i64,
        side: Side,
    ) -> Result<Option<i64>, RegistryError> {
        let (compared, order) = match side {
            Side::Before => ("<", "DESC"),
            Side::After => (">", "ASC"),
        };
        let statement = format!(
            "SELECT number FROM file_numbers WHERE bureau = $1 AND device_id = $2 AND series = $3 AND number {compared} $4
             ORDER BY number {order} LIMIT 1"
        );
        // Made of nothing but the words above.
        let row = sqlx::query(AssertSqlSafe(statement)).bind(self.bureau).bind(self.device).bind(self.series);
        Ok(row.bind(number).fetch_optional(&mut **tx).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The recordings of a number: more than one where the device began to count anew. The first few are enough to be seen.
    async fn recordings(&self, tx: &mut Transaction<'static, Any>, number: i64) -> Result<Vec<String>, RegistryError> {
        let rows = sqlx::query(
            "SELECT recording_id FROM file_numbers WHERE bureau = $1 AND device_id = $2 AND series = $3 AND number = $4
             LIMIT $5",
        );
        let rows = rows.bind(self.bureau).bind(self.device).bind(self.series).bind(number).bind(AGAIN);
        rows.fetch_all(&mut **tx).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Raises or takes back the flag of a file with a number, by what is known before it. The first of a device has nothing
/// before it: where it begins is not known.
async fn gap(
    tx: &mut Transaction<'static, Any>,
    series: &Series<'_>,
    (number, id): (i64, &str),
    at: Timestamp,
    telling: Telling,
) -> Result<(), RegistryError> {
    let subject = Subject::Recording { id, bureau: series.bureau };
    match series.neighbour(tx, number, Side::Before).await? {
        Some(before) if before + 1 < number => {
            let name = series.series;
            let detail = format!("{name}{} to {name}{} of the device are not stored", before + 1, number - 1);
            raise(tx, subject, Flag::SequenceGap, &detail, at, telling).await
        }
        _ => clear(tx, subject, Flag::SequenceGap).await,
    }
}

/// The flags that are raised for these subjects, with whose each is.
pub async fn raised(db: &Db, subjects: &[String]) -> Result<Vec<(String, Raised)>, RegistryError> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<_> = (1..=subjects.len()).map(|place| format!("${place}")).collect();
    let statement = format!("SELECT * FROM flags WHERE subject IN ({}) ORDER BY subject, flag", places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for subject in subjects {
        query = query.bind(subject);
    }
    let mut all = Vec::new();
    for row in query.fetch_all(db.pool()).await? {
        let (subject, flag): (String, String) = (row.try_get("subject")?, row.try_get("flag")?);
        let Some(flag) = Flag::parse(&flag) else { continue };
        all.push((subject, Raised { flag, detail: row.try_get("detail")?, at: moment(row.try_get("raised_at")?)? }));
    }
    Ok(all)
}
