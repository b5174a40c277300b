//! The deadline for storing a recording (Article 13): two working days after the process on the site ended, unless extended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    calendar::{Calendar, CalendarError},
    metadata::Metadata,
};

/// The law's period, in working days.
pub const WORKING_DAYS: u32 = 2;

/// How a recording stands towards its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not stored yet, and there is time.
    Awaited,
    /// Stored before the deadline.
    OnTime,
    /// Stored after it, but within an extension.
    Extended,
    /// Stored after the deadline and every extension. Accepted all the same.
    Late,
    /// Not stored, and the deadline has passed.
    Overdue,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Standing; 5] =
        [Standing::Awaited, Standing::OnTime, Standing::Extended, Standing::Late, Standing::Overdue];
}

/// A deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When the two working days end, always 16:00:00Z.
    pub due: Timestamp,
    /// Whether it rests on days that no published arrangement covers.
    pub is_provisional: bool,
    /// The latest extension, if there is one (Article 13: approved by 机构主管领导).
    pub extended_to: Option<Timestamp>,
}

impl Deadline {
    /// From when a recording's deadline counts: from the end of the process, where that is said; else from the footage's own end.
    /// There is none for what has neither, such as documents.
    pub fn counts_from(metadata: &Metadata) -> Option<Timestamp> {
        metadata.scene_ended_at.or(metadata.recorded_ended_at)
    }

    /// The deadline after a moment.
    pub fn after(scene_ended: Timestamp, calendar: &Calendar) -> Result<Self, CalendarError> {
        let due = calendar.due(scene_ended, WORKING_DAYS)?;
        Ok(Self { due: due.at, is_provisional: due.is_provisional, extended_to: None })
    }

    /// The moment that counts: an extension never makes it earlier.
    pub fn last_moment(&self) -> Timestamp {
        self.extended_to.map_or(self.due, |until| until.max(self.due))
    }

    /// How a recording stands, stored at a moment or not yet.
    pub fn standing(&self, stored_at: Option<Timestamp>, now: Timestamp) -> Standing {
        match stored_at {
            Some(at) if at <= self.due => Standing::OnTime,
            Some(at) if at <= self.last_moment() => Standing::Extended,
            Some(_) => Standing::Late,
            None if now <= self.last_moment() => Standing::Awaited,
            None => Standing::Overdue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn standing_by_the_moment_of_storing() {
        let calendar = Calendar::packaged().unwrap();
        let mut deadline = Deadline::after(at("2026-02-13T10:00:00+08:00"), &calendar).unwrap();
        assert_eq!(deadline.due, at("2026-02-24T16:00:00Z"));
        let now = at("2026-12-01T00:00:00Z");
        let standing = |deadline: &Deadline, stored: &str| deadline.standing(Some(at(stored)), now);
        assert_eq!(standing(&deadline, "2026-02-24T16:00:00Z"), Standing::OnTime);
        assert_eq!(standing(&deadline, "2026-02-24T16:00:01Z"), Standing::Late);
        assert_eq!(deadline.standing(None, deadline.due), Standing::Awaited);
        assert_eq!(deadline.standing(None, now), Standing::Overdue);
        deadline.extended_to = Some(at("2026-03-02T16:00:00Z"));
        assert_eq!(standing(&deadline, "2026-02-24T16:00:01Z"), Standing::Extended);
        assert_eq!(standing(&deadline, "2026-03-02T16:00:01Z"), Standing::Late);
        assert_eq!(deadline.standing(None, at("2026-03-02T00:00:00Z")), Standing::Awaited);
        // One that ends before the deadline takes nothing away.
        deadline.extended_to = Some(at("2026-02-20T16:00:00Z"));
        assert_eq!(standing(&deadline, "2026-02-24T15:00:00Z"), Standing::OnTime);
        assert_eq!(deadline.last_moment(), deadline.due);
    }
}
