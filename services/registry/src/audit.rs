//! The audit: what the rule says beside what the store says, for every recording and every record of a case; and what lies in
//! the bucket that nobody knows.

use std::{collections::BTreeSet, time::Duration};

use caselock_domain::{
    derived::Derived,
    extension::Extension,
    id::{BureauId, RecordingId},
    manifest, object_key,
    retention::rule::{Because, Keeping, Rolling, keeping},
    time::Timestamp,
};
use caselock_store::{Store, oldest_version, read_document};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sqlx::Row;

use crate::{
    Cases, Recording, RegistryError,
    locks::{Subject, words},
    malformed,
    objects::{self, Object},
};

/// Subjects read from the database at once, and compared at once.
const PAGE: i64 = 500;
const AT_ONCE: usize = 8;
/// Keys that nobody knows that are asked about once more at the end. Who has more has another trouble.
const DOUBTFUL: usize = 10_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// Locked for less than the rule says, or not in COMPLIANCE mode; what is held while its case was closed just now aside.
    UnderRetained,
    /// The rule wants a hold, and there is none.
    MissingHold,
    /// A hold is on that the rule does not want, and nothing is about to take it off.
    NeedlessHold,
    /// Something that was stored is not there.
    MissingObject,
    /// A delete marker hides it.
    Hidden,
    /// A key has a further version, or its oldest one is not what was stored.
    UnknownVersion,
    /// Nothing that is known put it there.
    UnknownObject,
    /// An entry of a case that can't be read, does not follow, or is not there: nothing of its bureau is loosened.
    UnreadEntry,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub finding: Kind,
    /// Of which key.
    pub key: String,
}

/// What the audit says of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The recording's or the case's id; of what nobody knows, the key.
    pub subject: String,
    /// The bureau.
    pub bureau: String,
    /// What its keys begin with.
    pub prefix: String,
    /// What the rule says.
    pub rule: Option<Rule>,
    /// The least date of all that lies there.
    pub locked_until: Option<Timestamp>,
    /// Whether all that lies there is held.
    pub legal_hold: bool,
    /// Whether the store was brought to what the rule says now. Until then what is held may still have an earlier date, and a
    /// hold may still be about to go.
    pub is_settled: bool,
    /// What is wrong; empty where all is as it must be.
    pub findings: Vec<Finding>,
}

impl Line {
    /// Of one key that is no subject's.
    fn of_key(key: &str, bureau: String, prefix: String, finding: Kind) -> Self {
        let findings = vec![Finding { finding, key: key.to_owned() }];
        let subject = key.to_owned();
        Self::of_folder(subject, bureau, prefix, findings)
    }

    /// Of what no rule speaks of.
    fn of_folder(subject: String, bureau: String, prefix: String, findings: Vec<Finding>) -> Self {
        let (locked_until, legal_hold, is_settled) = (None, false, true);
        Self { subject, bureau, prefix, rule: None, locked_until, legal_hold, is_settled, findings }
    }
}

/// What the rule says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The date.
    pub until: Timestamp,
    /// Whether there must be a hold.
    pub legal_hold: bool,
    /// `floor`, `open_case`, `closed_case`, `permanent_case` or `earlier_lock`.
    pub because: &'static str,
    /// The same in words, for people.
    pub derivation: String,
    /// The case it follows from.
    pub case: Option<String>,
    /// The end of the least period, which the date is never before.
    pub floor: Timestamp,
}

/// How many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Recordings and records of cases.
    pub subjects: u64,
    /// Those with something wrong, and what nobody knows.
    pub with_findings: u64,
    /// Objects that are locked for less than the rule says: must be 0.
    pub under_retained: u64,
    /// Subjects that are still to be brought to what the rule says now, which changed since: many for long mean that the
    /// registry is away.
    pub unsettled: u64,
}

/// Compares everything, one line at a time. What can be repaired is to be looked at next by whoever keeps the locks. What
/// nobody knows is told only if that is still so `patience` after the walk: it may have been stored just now. (Of more than
/// 10,000 such keys the rest is told at once.)
pub async fn audit(
    cases: &Cases,
    rolling: &Rolling,
    patience: Duration,
    mut tell: impl FnMut(&Line),
) -> Result<Summary, RegistryError> {
    let mut summary = Summary::default();
    let mut subjects = 0;
    let mut tell = |line: &Line| {
        count(&mut summary, line);
        tell(line);
    };
    let mut after = String::new();
    loop {
        let rows = sqlx::query("SELECT subject FROM locks WHERE subject > $1 ORDER BY subject LIMIT $2");
        let rows = rows.bind(&after).bind(PAGE).fetch_all(cases.db.pool()).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let Some(last) = ids.last().cloned() else { break };
        let lines = stream::iter(ids).map(|id| line(cases, rolling, id)).buffered(AT_ONCE);
        let lines: Vec<_> = lines.try_collect().await?;
        for line in lines.into_iter().flatten() {
            subjects += 1;
            if !line.findings.is_empty() {
                let due = sqlx::query("UPDATE locks SET look_at = 0 WHERE subject = $1");
                due.bind(&line.subject).execute(cases.db.pool()).await?;
            }
            tell(&line);
        }
        after = last;
    }
    disposals(cases, &mut tell).await?;
    unread(cases, &mut tell).await?;
    unknown(cases, patience, &mut tell).await?;
    Ok(Summary { subjects, ..summary })
}

fn count(summary: &mut Summary, line: &Line) {
    summary.with_findings += u64::from(!line.findings.is_empty());
    summary.unsettled += u64::from(!line.is_settled);
    summary.under_retained +=
        line.findings.iter().filter(|finding| finding.finding == Kind::UnderRetained).count() as u64;
}

async fn line(cases: &Cases, rolling: &Rolling, id: String) -> Result<Option<Line>, RegistryError> {
    let Some(subject) = Subject::load(&cases.db, &id).await? else { return Ok(None) };
    let objects = objects::below(&*cases.store, &subject.prefix).await?;
    let beside = match &subject.extensions {
        Some(extensions) => objects::below(&*cases.store, extensions).await?,
        None => Vec::new(),
    };
    let now = (cases.clock)();
    let locked_until = objects.iter().chain(&beside).map(|object| object.lock.until).min().flatten();
    let wanted = keeping(now, subject.floor, locked_until.unwrap_or(Timestamp::MIN), &subject.bonds, rolling)?;
    let is_settled = is_settled(cases, &id).await?;
    let mut findings: Vec<_> =
        objects.iter().chain(&beside).flat_map(|object| wrong(object, &wanted, now, is_settled)).collect();
    findings.extend(content(cases, &subject, &objects).await?);
    findings.extend(missing(&*cases.store, &extensions(cases, &subject).await?, &beside).await?);
    let (because, case) = words(&wanted.because);
    Ok(Some(Line {
        rule: Some(Rule {
            until: wanted.until,
            legal_hold: wanted.hold,
            because,
            derivation: derivation(cases, &subject.bureau, &wanted.because).await?,
            case: case.map(str::to_owned),
            floor: subject.floor,
        }),
        is_settled,
        legal_hold: !objects.is_empty() && objects.iter().chain(&beside).all(|object| object.lock.hold),
        subject: id,
        bureau: subject.bureau.to_string(),
        prefix: subject.prefix,
        locked_until,
        findings,
    }))
}

/// Why a date is what it is.
async fn derivation(cases: &Cases, bureau: &BureauId, because: &Because) -> Result<String, RegistryError> {
    Ok(match because {
        Because::Floor => "the least period, from the day it was stored".into(),
        Because::OpenCase(number) => format!("case {number} is open, or not opened yet: held, and rolled forward"),
        Because::PermanentCase(number) => format!("case {number} is kept for ever: held, and rolled forward"),
        Because::EarlierLock => "it was locked for longer before, and no lock is shortened".into(),
        Because::ClosedCase(number) => {
            let row = sqlx::query("SELECT class, closed_on FROM cases WHERE bureau = $1 AND number = $2");
            let row = row.bind(bureau.as_str()).bind(number.as_str()).fetch_optional(cases.db.pool()).await?;
            let Some(row) = row else { return Ok(format!("case {number} is closed")) };
            let [class, day] = ["class", "closed_on"].map(|column| row.try_get::<Option<String>, _>(column));
            format!("case {number} was closed as {} on {}", class?.unwrap_or_default(), day?.unwrap_or_default())
        }
    })
}

/// The extensions of a recording's deadline that must lie beside it.
async fn extensions(cases: &Cases, subject: &Subject) -> Result<BTreeSet<String>, RegistryError> {
    let Some(prefix) = &subject.extensions else { return Ok(BTreeSet::new()) };
    let rows = sqlx::query("SELECT seq FROM extensions WHERE recording_id = $1 AND is_written = 1").bind(&subject.id);
    let rows = rows.fetch_all(cases.db.pool()).await?;
    rows.iter().map(|row| Ok(object_key::entry_below(prefix, row.try_get::<i64, _>(0)? as u64))).collect()
}

/// Those of the keys that are not there, nor came since the objects were listed.
async fn missing(
    store: &dyn Store,
    expected: &BTreeSet<String>,
    objects: &[Object],
) -> Result<Vec<Finding>, RegistryError> {
    let there: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let mut findings = Vec::new();
    for key in expected.iter().filter(|key| !there.contains(key.as_str())) {
        if oldest_version(store, key).await?.is_none() {
            findings.push(Finding { finding: Kind::MissingObject, key: key.clone() });
        }
    }
    Ok(findings)
}

/// Records of disposals are held for ever: by them no generation is used twice. Tells of those that are not.
async fn disposals(cases: &Cases, mut tell: impl FnMut(&Line)) -> Result<(), RegistryError> {
    let mut after = (String::new(), -1);
    loop {
        let rows = sqlx::query(
            "SELECT recording_id, bureau, generation FROM disposals
             WHERE is_done = 1 AND (recording_id, generation) > ($1, $2) ORDER BY recording_id, generation LIMIT $3",
        );
        let rows = rows.bind(&after.0).bind(after.1).bind(PAGE).fetch_all(cases.db.pool()).await?;
        for row in &rows {
            let (id, bureau): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let generation: i64 = row.try_get(2)?;
            let (owner, of) = (bureau.parse::<BureauId>().map_err(malformed)?, id.parse().map_err(malformed)?);
            let key = object_key::disposal(&owner, of, generation as u32);
            let objects = objects::below(&*cases.store, &key).await?;
            let mut findings = missing(&*cases.store, &BTreeSet::from([key]), &objects).await?;
            for object in objects.iter().filter(|object| !object.lock.hold) {
                findings.push(Finding { finding: Kind::MissingHold, key: object.key.clone() });
                let loose =
                    sqlx::query("UPDATE disposals SET is_loose = 1 WHERE recording_id = $1 AND generation = $2");
                loose.bind(&id).bind(generation).execute(cases.db.pool()).await?;
            }
            if !findings.is_empty() {
                tell(&Line::of_folder(id.clone(), bureau, object_key::disposals(&owner, of), findings));
            }
            after = (id, generation);
        }
        if rows.len() < PAGE as usize {
            return Ok(());
        }
    }
}

/// Tells of entries of cases that could not be taken over.
async fn unread(cases: &Cases, mut tell: impl FnMut(&Line)) -> Result<(), RegistryError> {
    let mut after = String::new();
    loop {
        let rows = sqlx::query("SELECT key, bureau FROM unread_entries WHERE key > $1 ORDER BY key LIMIT $2");
        let rows = rows.bind(&after).bind(PAGE).fetch_all(cases.db.pool()).await?;
        for row in &rows {
            after = row.try_get("key")?;
            let prefix = object_key::owner(&after).unwrap_or(&after).to_owned();
            tell(&Line::of_key(&after, row.try_get("bureau")?, prefix, Kind::UnreadEntry));
        }
        if rows.len() < PAGE as usize {
            return Ok(());
        }
    }
}

/// Whether the store was brought to what the rule says now: otherwise a hold may still be about to go.
async fn is_settled(cases: &Cases, id: &str) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM locks WHERE subject = $1 AND kept_revision = revision");
    Ok(row.bind(id).fetch_optional(cases.db.pool()).await?.is_some())
}

/// What is wrong with an object's protection.
fn wrong(object: &Object, wanted: &Keeping, now: Timestamp, is_settled: bool) -> Vec<Finding> {
    // What is held stays, until the date is set that is about to be.
    let is_under_way = object.lock.hold && !is_settled;
    let checks = [
        // A date that has passed protects nothing any more, and can't be set.
        (Kind::UnderRetained, wanted.until > now && object.lock.until < Some(wanted.until) && !is_under_way),
        (Kind::MissingHold, wanted.hold && !object.lock.hold),
        (Kind::NeedlessHold, !wanted.hold && object.lock.hold && is_settled),
        (Kind::Hidden, !object.markers.is_empty()),
        (Kind::UnknownVersion, !object.others.is_empty()),
    ];
    let wrong = checks.into_iter().filter(|(_, is_wrong)| *is_wrong);
    wrong.map(|(finding, _)| Finding { finding, key: object.key.clone() }).collect()
}

/// What should lie there and does not, and the other way round.
async fn content(cases: &Cases, subject: &Subject, objects: &[Object]) -> Result<Vec<Finding>, RegistryError> {
    let there: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let (expected, is_whole, version) = match subject.id.parse::<RecordingId>() {
        Ok(id) => match Recording::find(&cases.db, &subject.bureau, id).await? {
            Some(recording) => {
                let (keys, is_whole) = keys_of(&*cases.store, &subject.bureau, id, &recording).await?;
                (keys, is_whole, Some((recording.object_key, recording.version)))
            }
            None => entries(cases, subject).await?,
        },
        Err(_) => entries(cases, subject).await?,
    };
    let finding = |finding, key: &str| Finding { finding, key: key.to_owned() };
    let mut findings = missing(&*cases.store, &expected, objects).await?;
    if is_whole {
        let unknown = there.iter().filter(|key| !expected.contains(**key));
        findings.extend(unknown.map(|key| finding(Kind::UnknownObject, key)));
    }
    if let Some((key, version)) = version
        && objects.iter().any(|object| object.key == key && object.version != version)
    {
        findings.push(finding(Kind::UnknownVersion, &key));
    }
    Ok(findings)
}

/// Keys, whether there are no others, and the version of one of them.
type Content = (BTreeSet<String>, bool, Option<(String, String)>);

/// What must lie beside a recording, and whether that is all there may be: media may be at work.
async fn keys_of(
    store: &dyn Store,
    bureau: &BureauId,
    id: RecordingId,
    recording: &Recording,
) -> Result<(BTreeSet<String>, bool), RegistryError> {
    let generation = recording.generation;
    let mut keys = BTreeSet::from([recording.object_key.clone(), object_key::manifest(bureau, id, generation)]);
    if recording.verification.is_some() {
        keys.insert(object_key::verification(bureau, id, generation));
    }
    if recording.derivation.is_none() {
        return Ok((keys, false));
    }
    let list = object_key::derived(bureau, id, generation);
    let derived = read_document(store, &list, manifest::LIMIT).await?;
    let derived = derived.and_then(|(_, bytes)| serde_json::from_slice::<Derived>(&bytes).ok());
    let is_whole = recording.verification.is_some() && derived.is_some();
    keys.extend(derived.into_iter().flat_map(|derived| derived.derivatives).map(|derivative| derivative.object_key));
    keys.insert(list);
    Ok((keys, is_whole))
}

/// The entries of a case. The last one may have been written just now.
async fn entries(cases: &Cases, subject: &Subject) -> Result<Content, RegistryError> {
    let rows = sqlx::query("SELECT seq FROM case_entries WHERE case_id = $1").bind(&subject.id);
    let mut keys = BTreeSet::new();
    for row in rows.fetch_all(cases.db.pool()).await? {
        let seq: i64 = row.try_get(0)?;
        keys.insert(object_key::entry_below(&subject.prefix, seq as u64));
    }
    let pending = sqlx::query("SELECT 1 FROM case_intents WHERE case_id = $1").bind(&subject.id);
    let is_whole = pending.fetch_optional(cases.db.pool()).await?.is_none();
    Ok((keys, is_whole, None))
}

/// Walks the whole bucket, and tells of what belongs to nothing that is known. What came during the walk may be known a
/// little later.
async fn unknown(cases: &Cases, patience: Duration, mut tell: impl FnMut(&Line)) -> Result<(), RegistryError> {
    let (mut after, mut last): (Option<String>, Option<(String, bool)>) = (None, None);
    let mut doubtful = Vec::new();
    let stray = |key: &str| {
        let bureau = key.split('/').nth(1).unwrap_or_default().to_owned();
        Line::of_key(key, bureau, object_key::owner(key).unwrap_or(key).to_owned(), Kind::UnknownObject)
    };
    loop {
        let page = cases.store.keys("v1/", after.as_deref()).await?;
        for key in page.keys.iter().filter(|key| !key.starts_with("v1/probe/")) {
            let owner = known_by(key);
            if last.as_ref().is_none_or(|(known, _)| known != owner) {
                last = Some((owner.to_owned(), is_known(cases, owner).await?));
            }
            if last.as_ref().is_some_and(|(_, is_known)| !is_known) {
                if doubtful.len() < DOUBTFUL {
                    doubtful.push(key.clone());
                } else {
                    tell(&stray(key));
                }
            }
        }
        match page.keys.into_iter().next_back().filter(|_| page.more) {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if !doubtful.is_empty() {
        tokio::time::sleep(patience).await;
    }
    for key in doubtful {
        if !is_known(cases, known_by(&key)).await? {
            tell(&stray(&key));
        }
    }
    Ok(())
}

/// What of a key says whether it is known: the generation or the case it belongs to; of extensions and disposals, of which
/// each has a row, all of it.
fn known_by(key: &str) -> &str {
    match object_key::owner(key) {
        Some(owner) if !owner.ends_with("/extensions/") && !owner.ends_with("/disposals/") => owner,
        _ => key,
    }
}

/// Whether there is a row of a generation or a case, by its prefix, or of an extension or a disposal, by its key.
async fn is_known(cases: &Cases, owner: &str) -> Result<bool, RegistryError> {
    let parts: Vec<_> = owner.trim_end_matches('/').split('/').collect();
    let pool = cases.db.pool();
    let found = match parts[..] {
        ["v1", bureau, "recordings", id, "disposals", _] => {
            let Some(generation) = object_key::disposed_generation(owner) else { return Ok(false) };
            let known =
                sqlx::query("SELECT 1 FROM disposals WHERE recording_id = $1 AND bureau = $2 AND generation = $3");
            known.bind(id).bind(bureau).bind(i64::from(generation)).fetch_optional(pool).await?
        }
        ["v1", bureau, "recordings", id, "extensions", _] => {
            let Some(seq) = object_key::extension_seq(owner) else { return Ok(false) };
            let known = sqlx::query("SELECT document FROM extensions WHERE recording_id = $1 AND seq = $2");
            let row = known.bind(id).bind(seq as i64).fetch_optional(pool).await?;
            let document = row.map(|row| row.try_get::<String, _>(0)).transpose()?;
            let extension = document.and_then(|document| serde_json::from_str::<Extension>(&document).ok());
            return Ok(extension.is_some_and(|extension| extension.bureau.as_str() == bureau));
        }
        ["v1", bureau, "recordings", id, generation] => {
            let Ok(generation) = generation.parse::<i64>() else { return Ok(false) };
            let known = sqlx::query("SELECT 1 FROM recordings WHERE id = $1 AND bureau = $2 AND generation = $3");
            known.bind(id).bind(bureau).bind(generation).fetch_optional(pool).await?
        }
        ["v1", bureau, "cases", id] => {
            let known = sqlx::query("SELECT 1 FROM cases WHERE id = $1 AND bureau = $2");
            known.bind(id).bind(bureau).fetch_optional(pool).await?
        }
        _ => None,
    };
    Ok(found.is_some())
}
