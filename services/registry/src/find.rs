//! Recordings found by what Article 19 names, page by page.

use caselock_domain::id::BureauId;
use sqlx::{AssertSqlSafe, Row, any::AnyRow};

use crate::{
    Awaited, Db, Recording, RegistryError,
    attention::{self, Raised},
};

/// What is looked for. All that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Facets and values; the one that fewest recordings have comes first.
    pub facets: Vec<(&'static str, String)>,
    /// Used not before, in seconds since 1970.
    pub used_from: Option<i64>,
    /// Used before.
    pub used_before: Option<i64>,
    /// This one alone.
    pub id: Option<String>,
    /// `pending`, `intact` or `damaged`: only what reading it back found so.
    pub verification: Option<&'static str>,
    /// Only what comes after this one: its time of use and its id.
    pub after: Option<(i64, String)>,
    /// At most so many.
    pub limit: u32,
}

/// A recording, its cases, and what protects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The recording.
    pub recording: Recording,
    /// Numbers of the cases it is evidence in, or was uploaded for.
    pub cases: Vec<String>,
    /// The least date that was read back last, in seconds since 1970.
    pub locked_until: Option<i64>,
    /// Whether all was held when it was read back last.
    pub hold: bool,
    /// `floor`, `open_case`, `closed_case`, `permanent_case` or `earlier_lock`.
    pub follows: Option<String>,
    /// The case both follow from.
    pub follows_case: Option<String>,
    /// Whether the store was brought to what the rule says now.
    pub is_settled: bool,
    /// What a person should look at.
    pub flags: Vec<Raised>,
    /// By when it had to be stored, if there is a deadline.
    pub awaited: Option<Awaited>,
}

/// A page, the latest use first.
pub async fn find(db: &Db, bureau: &BureauId, wanted: &Wanted) -> Result<Vec<Found>, RegistryError> {
    let mut texts = vec![bureau.to_string()];
    let mut numbers = Vec::new();
    let mut conditions = Vec::new();
    // Texts come first among the parameters, numbers after them.
    let mut text = |value: &String| {
        texts.push(value.clone());
        format!("${}", texts.len())
    };
    // The first facet leads; with none, the recordings themselves do.
    let (from, lead) = match wanted.facets.split_first() {
        None => ("recordings r".to_owned(), "r.bureau = $1"),
        Some(((facet, value), others)) => {
            conditions.push(format!("f.facet = '{facet}' AND f.value = {}", text(value)));
            for (facet, value) in others {
                conditions.push(format!(
                    "EXISTS (SELECT 1 FROM facets g WHERE g.recording_id = r.id AND g.facet = '{facet}' AND g.value = {})",
                    text(value)
                ));
            }
            ("facets f JOIN recordings r ON r.id = f.recording_id".to_owned(), "f.bureau = $1")
        }
    };
    let (used_at, id) = if wanted.facets.is_empty() { ("r.used_at", "r.id") } else { ("f.used_at", "f.recording_id") };
    if let Some(only) = &wanted.id {
        conditions.push(format!("r.id = {}", text(only)));
    }
    match wanted.verification {
        None => {}
        Some("pending") => conditions.push("r.verification IS NULL".to_owned()),
        Some(found) => conditions.push(format!("r.verification = '{found}'")),
    }
    let after = wanted.after.as_ref().map(|(at, after)| (at, text(after)));
    let mut number = |value: i64| {
        numbers.push(value);
        format!("${}", texts.len() + numbers.len())
    };
    if let Some((at, after)) = after {
        conditions.push(format!("({used_at}, {id}) < ({}, {after})", number(*at)));
    }
    if let Some(from) = wanted.used_from {
        conditions.push(format!("{used_at} >= {}", number(from)));
    }
    if let Some(before) = wanted.used_before {
        conditions.push(format!("{used_at} < {}", number(before)));
    }
    let limit = number(i64::from(wanted.limit));
    let conditions: String = conditions.iter().map(|condition| format!(" AND {condition}")).collect();
    let statement = format!(
        "SELECT r.*, l.lock_until, l.hold, l.follows, l.follows_case, l.kept_revision, l.revision
         FROM {from} LEFT JOIN locks l ON l.subject = r.id
         WHERE {lead}{conditions} ORDER BY {used_at} DESC, {id} DESC LIMIT {limit}"
    );
    // Values are parameters; the statement is made of nothing but the words above.
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for value in &texts {
        query = query.bind(value);
    }
    for value in &numbers {
        query = query.bind(*value);
    }
    let mut found = query.fetch_all(db.pool()).await?.iter().map(of_row).collect::<Result<Vec<_>, _>>()?;
    name_cases(db, &mut found).await?;
    let ids: Vec<_> = found.iter().map(|one| one.recording.id.clone()).collect();
    for (id, raised) in attention::raised(db, &ids).await? {
        if let Some(one) = found.iter_mut().find(|one| one.recording.id == id) {
            one.flags.push(raised);
        }
    }
    for awaited in Awaited::of_all(db, &ids).await? {
        if let Some(one) = found.iter_mut().find(|one| one.recording.id == awaited.recording_id) {
            one.awaited = Some(awaited);
        }
    }
    Ok(found)
}

fn of_row(row: &AnyRow) -> Result<Found, RegistryError> {
    let (kept, revision): (Option<i64>, Option<i64>) = (row.try_get("kept_revision")?, row.try_get("revision")?);
    Ok(Found {
        recording: Recording::of_row(row)?,
        cases: Vec::new(),
        locked_until: row.try_get("lock_until")?,
        hold: row.try_get::<Option<i64>, _>("hold")? == Some(1),
        follows: row.try_get("follows")?,
        follows_case: row.try_get("follows_case")?,
        is_settled: kept.is_some() && kept == revision,
        flags: Vec::new(),
        awaited: None,
    })
}

/// One query for the whole page.
async fn name_cases(db: &Db, found: &mut [Found]) -> Result<(), RegistryError> {
    if found.is_empty() {
        return Ok(());
    }
    let places: Vec<_> = (1..=found.len()).map(|place| format!("${place}")).collect();
    let statement = format!(
        "SELECT recording_id, value FROM facets WHERE facet = 'case' AND recording_id IN ({}) ORDER BY value",
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for one in found.iter() {
        query = query.bind(one.recording.id.clone());
    }
    for row in query.fetch_all(db.pool()).await? {
        let (id, number): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(one) = found.iter_mut().find(|one| one.recording.id == id) {
            one.cases.push(number);
        }
    }
    Ok(())
}
