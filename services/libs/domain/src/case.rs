//! Cases: what a bureau says of them, entry by entry, and the state that follows. Nothing is ever taken back: an entry is added.

use std::{collections::BTreeSet, fmt};

use jiff::{Span, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::{
    id::{BureauId, IdError, RecordingId, derived_uuid},
    metadata::MAX_TEXT,
    retention::{RetentionError, end_of, end_of_day, is_in_clock_units},
};

/// The media type of an entry.
pub const MEDIA_TYPE: &str = "application/vnd.caselock.case-entry.v1+json";

/// A case's number, as its bureau writes it, in Unicode's NFKC: full-width and half-width digits and brackets are one number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaseNumber(String);

impl CaseNumber {
    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CaseNumber {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let normal: String = text.trim().nfkc().collect();
        if !(1..=MAX_TEXT).contains(&normal.chars().count()) || normal.chars().any(char::is_control) {
            return Err(IdError { field: "number", expected: "1 to 200 characters, none a control character" });
        }
        Ok(Self(normal))
    }
}

impl From<CaseNumber> for String {
    fn from(number: CaseNumber) -> Self {
        number.0
    }
}

impl fmt::Display for CaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A case's id: follows from bureau and number, so a case is opened once however often that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseId(Uuid);

impl CaseId {
    /// The id of a bureau's case.
    pub fn derive(bureau: &BureauId, number: &CaseNumber) -> Self {
        let fields = [bureau.as_str().as_bytes(), number.as_str().as_bytes()];
        Self(derived_uuid("caselock.io 2026-11 case id v1", &fields))
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One entry of a case's record: a locked object of its own, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseEntry {
    /// [`MEDIA_TYPE`].
    pub media_type: String,
    /// The bureau.
    pub bureau: BureauId,
    /// The case's number.
    pub number: CaseNumber,
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Who wrote it: the identity of the caller's certificate.
    pub by: String,
    /// What it says.
    pub change: CaseChange,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CaseChange {
    /// The case exists.
    Opened {
        /// 当事人.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party: Option<String>,
        /// 案由.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        /// Whether the whole process had to be recorded (Article 8).
        #[serde(default)]
        full_recording_required: bool,
    },
    /// Something is known better now; what is not named stays.
    Amended {
        /// 当事人.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party: Option<String>,
        /// 案由.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        /// Whether the whole process had to be recorded (Article 8).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        full_recording_required: Option<bool>,
    },
    /// Recordings are evidence in it. A recording that names the case in its metadata need not be listed.
    Bound {
        /// The recordings.
        recordings: Vec<RecordingId>,
    },
    /// It is closed.
    Closed {
        /// The name of its class, for example `10y`.
        class: String,
        /// The day it was closed, in Shanghai.
        on: Date,
        /// Until when its file is kept.
        #[serde(flatten)]
        kept: Kept,
        /// How that was reckoned, for people.
        rule: String,
    },
    /// It goes on.
    Reopened {
        /// Why.
        reason: String,
    },
    /// What could not be recorded (Article 11): a 工作记录.
    Noted {
        /// Why recording was impossible.
        reason: String,
        /// Who says so.
        author: String,
        /// 本机构主要负责人, who reviewed it.
        reviewer: String,
    },
}

/// Until when a closed case's file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kept", rename_all = "snake_case")]
pub enum Kept {
    /// Until this moment.
    Until {
        /// 16:00:00Z, the end of a day in Shanghai.
        until: Timestamp,
    },
    /// For ever.
    Permanently,
}

/// From which day a closed case's period counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodStart {
    /// The day it was closed.
    #[default]
    ClosingDay,
    /// The first of January after it.
    NextYear,
}

impl fmt::Display for PeriodStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosingDay => "the closing day",
            Self::NextYear => "1 January after the closing day",
        })
    }
}

impl Kept {
    /// Until when a case is kept that was closed on a day; `None` is for ever. A period in clock units, for tests, counts from
    /// `now`.
    pub fn after(
        closed: Date,
        start: PeriodStart,
        period: Option<&Span>,
        now: Timestamp,
    ) -> Result<Self, RetentionError> {
        let Some(period) = period else { return Ok(Self::Permanently) };
        if is_in_clock_units(period) {
            return Ok(Self::Until { until: end_of(now, period)? });
        }
        let first = match start {
            PeriodStart::ClosingDay => closed,
            PeriodStart::NextYear => jiff::civil::date(closed.year(), 12, 31).tomorrow()?,
        };
        Ok(Self::Until { until: end_of_day(first.checked_add(*period)?)? })
    }
}

/// Whether a case is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its file is not complete; what is evidence in it is held.
    Open,
    /// Closed; its file is kept so long.
    Closed(Kept),
}

/// A case: what its entries say, up to the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The bureau.
    pub bureau: BureauId,
    /// Its number.
    pub number: CaseNumber,
    /// The last entry.
    pub seq: u64,
    /// When it was opened here.
    pub opened_at: Timestamp,
    /// 当事人.
    pub party: Option<String>,
    /// 案由.
    pub cause: Option<String>,
    /// Whether the whole process had to be recorded.
    pub full_recording_required: bool,
    /// Recordings that were bound to it by name.
    pub evidence: BTreeSet<RecordingId>,
    /// Whether it is open.
    pub status: Status,
    /// The class it was closed as and the day, as long as it is closed.
    pub closing: Option<(String, Date)>,
    /// Why it was reopened last.
    pub reopened: Option<String>,
    /// Notes of what could not be recorded: reason, author, reviewer.
    pub notes: Vec<(String, String, String)>,
}

/// Why an entry does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// The first entry opens the case, no other does.
    #[error("the first entry of a case opens it, and no other does")]
    Opening,
    /// Another entry comes next.
    #[error("entry {found} can't follow {last}")]
    OutOfOrder {
        /// The last.
        last: u64,
        /// The one that came.
        found: u64,
    },
    /// It is another case's.
    #[error("the entry belongs to another case")]
    AnotherCase,
    /// Only an open case can be closed.
    #[error("the case is closed already")]
    Closed,
    /// Only a closed case can be reopened.
    #[error("the case is open")]
    Open,
}

impl Case {
    /// The id.
    pub fn id(&self) -> CaseId {
        CaseId::derive(&self.bureau, &self.number)
    }

    /// A case by its first entry.
    pub fn open(entry: &CaseEntry) -> Result<Self, CaseError> {
        match &entry.change {
            CaseChange::Opened { party, cause, full_recording_required } if entry.seq == 1 => Ok(Self {
                bureau: entry.bureau.clone(),
                number: entry.number.clone(),
                seq: 1,
                opened_at: entry.at,
                party: party.clone(),
                cause: cause.clone(),
                full_recording_required: *full_recording_required,
                evidence: BTreeSet::new(),
                status: Status::Open,
                closing: None,
                reopened: None,
                notes: Vec::new(),
            }),
            _ => Err(CaseError::Opening),
        }
    }

    /// Whether the case says already what the change would add: so that asking twice is answered twice, and written once.
    pub fn says(&self, change: &CaseChange) -> bool {
        let agrees = |known: &Option<String>, said: &Option<String>| said.is_none() || known == said;
        match change {
            CaseChange::Opened { party, cause, full_recording_required } => {
                agrees(&self.party, party)
                    && agrees(&self.cause, cause)
                    && (self.full_recording_required || !full_recording_required)
            }
            CaseChange::Amended { party, cause, full_recording_required } => {
                agrees(&self.party, party)
                    && agrees(&self.cause, cause)
                    && full_recording_required.is_none_or(|required| required == self.full_recording_required)
            }
            CaseChange::Bound { recordings } => recordings.iter().all(|id| self.evidence.contains(id)),
            CaseChange::Closed { class, on, .. } => {
                self.closing.as_ref().is_some_and(|(known, day)| (known, day) == (class, on))
            }
            CaseChange::Reopened { reason } => self.status == Status::Open && self.reopened.as_ref() == Some(reason),
            CaseChange::Noted { reason, author, reviewer } => {
                self.notes.iter().any(|note| (&note.0, &note.1, &note.2) == (reason, author, reviewer))
            }
        }
    }

    /// Applies the next entry; an error leaves the case as it was.
    pub fn apply(&mut self, entry: &CaseEntry) -> Result<(), CaseError> {
        if (&entry.bureau, &entry.number) != (&self.bureau, &self.number) {
            return Err(CaseError::AnotherCase);
        }
        if entry.seq != self.seq + 1 {
            return Err(CaseError::OutOfOrder { last: self.seq, found: entry.seq });
        }
        match &entry.change {
            CaseChange::Opened { .. } => return Err(CaseError::Opening),
            CaseChange::Amended { party, cause, full_recording_required } => {
                self.party = party.clone().or(self.party.take());
                self.cause = cause.clone().or(self.cause.take());
                self.full_recording_required = full_recording_required.unwrap_or(self.full_recording_required);
            }
            CaseChange::Bound { recordings } => self.evidence.extend(recordings),
            CaseChange::Closed { class, on, kept, .. } => match self.status {
                Status::Open => {
                    self.status = Status::Closed(*kept);
                    self.closing = Some((class.clone(), *on));
                }
                Status::Closed(_) => return Err(CaseError::Closed),
            },
            CaseChange::Reopened { reason } => match self.status {
                Status::Open => return Err(CaseError::Open),
                Status::Closed(_) => {
                    (self.status, self.closing) = (Status::Open, None);
                    self.reopened = Some(reason.clone());
                }
            },
            CaseChange::Noted { reason, author, reviewer } => {
                self.notes.push((reason.clone(), author.clone(), reviewer.clone()));
            }
        }
        self.seq = entry.seq;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan, civil::date};

    use super::*;

    fn number(text: &str) -> CaseNumber {
        text.to_owned().try_into().unwrap()
    }

    fn entry(seq: u64, change: CaseChange) -> CaseEntry {
        CaseEntry {
            media_type: MEDIA_TYPE.into(),
            bureau: "demo".parse().unwrap(),
            number: number("2026-罚-17"),
            seq,
            at: "2026-03-01T00:00:00Z".parse().unwrap(),
            by: "spiffe://caselock.test/bureau/demo".into(),
            change,
        }
    }

    fn opened() -> CaseEntry {
        entry(1, CaseChange::Opened { party: None, cause: Some("无证行医".into()), full_recording_required: false })
    }

    fn closed(seq: u64) -> CaseEntry {
        let on = date(2026, 3, 31);
        let kept = Kept::after(on, PeriodStart::ClosingDay, Some(&10.years()), Timestamp::UNIX_EPOCH).unwrap();
        entry(seq, CaseChange::Closed { class: "10y".into(), on, kept, rule: "10 years".into() })
    }

    #[test]
    fn one_number_however_it_is_typed() {
        let demo = "demo".parse().unwrap();
        let id = |text| CaseId::derive(&demo, &number(text));
        assert_eq!(id("(2026)罚-17"), id(" （２０２６）罚－１７ "));
        assert_ne!(id("(2026)罚-17"), CaseId::derive(&"other".parse().unwrap(), &number("(2026)罚-17")));
        for bad in ["", "  ", "a\nb"] {
            assert!(CaseNumber::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_life() {
        let mut case = Case::open(&opened()).unwrap();
        let party = CaseChange::Amended { party: Some("某诊所".into()), cause: None, full_recording_required: None };
        case.apply(&entry(2, party)).unwrap();
        assert_eq!((case.party.as_deref(), case.cause.as_deref()), (Some("某诊所"), Some("无证行医")));
        case.apply(&closed(3)).unwrap();
        let until = "2036-03-31T16:00:00Z".parse().unwrap();
        assert_eq!(case.status, Status::Closed(Kept::Until { until }));
        case.apply(&entry(4, CaseChange::Reopened { reason: "申诉".into() })).unwrap();
        assert_eq!((case.status, case.seq), (Status::Open, 4));
    }

    #[test]
    fn what_does_not_follow_changes_nothing() {
        assert_eq!(Case::open(&closed(1)), Err(CaseError::Opening));
        let mut case = Case::open(&opened()).unwrap();
        let before = case.clone();
        assert_eq!(case.apply(&opened()), Err(CaseError::OutOfOrder { last: 1, found: 1 }));
        assert_eq!(case.apply(&closed(3)), Err(CaseError::OutOfOrder { last: 1, found: 3 }));
        assert_eq!(case.apply(&entry(2, CaseChange::Reopened { reason: String::new() })), Err(CaseError::Open));
        let other = CaseEntry { number: number("another"), ..closed(2) };
        assert_eq!(case.apply(&other), Err(CaseError::AnotherCase));
        assert_eq!(case, before);
        case.apply(&closed(2)).unwrap();
        assert_eq!(case.apply(&closed(3)), Err(CaseError::Closed));
    }

    #[test]
    fn periods_count_from_where_the_bureau_says() {
        let day = date(2028, 2, 29);
        let until = |start, period: Option<&Span>| Kept::after(day, start, period, Timestamp::UNIX_EPOCH).unwrap();
        let moment = |text: &str| Kept::Until { until: text.parse().unwrap() };
        assert_eq!(until(PeriodStart::ClosingDay, Some(&10.years())), moment("2038-02-28T16:00:00Z"));
        assert_eq!(until(PeriodStart::NextYear, Some(&30.years())), moment("2059-01-01T16:00:00Z"));
        assert_eq!(until(PeriodStart::ClosingDay, None), Kept::Permanently);
    }

    #[test]
    fn documents_read_back_the_same() {
        for entry in [opened(), closed(2), entry(3, CaseChange::Bound { recordings: Vec::new() })] {
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<CaseEntry>(&json).unwrap(), entry, "{json}");
        }
    }
}
