//! What deadlines and flags are judged by.

use caselock_domain::{calendar::Calendar, time::Timestamp};
use jiff::{SignedDuration, Span, ToSpan};
use regex::Regex;

use crate::RegistryError;

/// The series and number in the names of files that devices count: `DSC00042.JPG`, not what has a date in it.
pub const FILE_NUMBERS: &str = r"^(?P<series>[A-Za-z_-]+)(?P<number>[0-9]{3,5})\.[^.]+$";

/// What deadlines and flags are judged by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Working days.
    pub calendar: Calendar,
    /// How long before a deadline it is near.
    pub near: SignedDuration,
    /// How far a recording's times may be from its document's.
    pub tolerance: SignedDuration,
    /// How long after it was stored a recording's case may still be opened without a flag.
    pub unopened: Span,
    /// Names of files that are counted, with the groups `series` and `number`.
    pub file_numbers: Regex,
}

impl Rules {
    /// By this calendar, and otherwise the usual ones.
    pub fn by(calendar: Calendar) -> Result<Self, RegistryError> {
        let file_numbers = Regex::new(FILE_NUMBERS).map_err(|error| RegistryError::Row(error.to_string()))?;
        Ok(Self {
            calendar,
            near: SignedDuration::from_hours(12),
            tolerance: SignedDuration::from_mins(10),
            unopened: 90.days(),
            file_numbers,
        })
    }

    /// By the packaged calendar.
    pub fn packaged() -> Result<Self, RegistryError> {
        Self::by(Calendar::packaged()?)
    }

    /// The series and number of a file's name, if it is counted.
    pub fn number_of(&self, name: &str) -> Option<(String, i64)> {
        let found = self.file_numbers.captures(name)?;
        Some((found.name("series")?.as_str().to_owned(), found.name("number")?.as_str().parse().ok()?))
    }

    /// From when on a case that was named and not opened is to be looked at.
    pub fn flagged_from(&self, stored_at: Timestamp) -> Result<Timestamp, RegistryError> {
        let stored_at = stored_at.to_zoned_datetime(caselock_domain::time::shanghai());
        Ok(stored_at.checked_add(self.unopened)?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_names_are_told_from_dated_ones() {
        let rules = Rules::packaged().unwrap();
        assert_eq!(rules.number_of("DSC00042.JPG"), Some(("DSC".into(), 42)));
        assert_eq!(rules.number_of("IMG_0007.MOV"), Some(("IMG_".into(), 7)));
        for dated in ["DSJ0042_20261120_090500.mp4", "2026-11-20 0905.mp4", "a.mp4", "IMG_20261120.jpg", "0001.mp4"] {
            assert_eq!(rules.number_of(dated), None, "{dated}");
        }
    }
}
