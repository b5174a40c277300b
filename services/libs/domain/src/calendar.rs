//! China's working days: weekends, public holidays, and the days that are worked in their stead (调休).
//!
//! The State Council publishes each year's arrangement late in the year before. The calendar is data with a version: one is
//! packaged, and an operator can give a newer one. Days it does not cover count Monday to Friday, and what rests on them is
//! provisional.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{
    Timestamp,
    civil::{Date, Weekday, date},
};
use serde::{Deserialize, Serialize};

use crate::{
    retention::{RetentionError, end_of_day},
    time::day_of,
};

/// The packaged calendar, as JSON.
const PACKAGED: &str = include_str!("../data/calendar.json");
/// The latest day of December that the next year's arrangement has never moved; 2006-12-30 and 31 were worked for 2007.
const LAST_SETTLED: i8 = 24;

/// Why a calendar can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    /// It has not the calendar's form.
    #[error("the calendar is not of the form {{version, source, years: {{YEAR: {{off, working}}}}}}: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A day stands under another year, or is both off and worked.
    #[error("the calendar's {0} is listed under another year, or both as off and as working")]
    Contradiction(Date),
    /// No year is covered.
    #[error("the calendar covers no year")]
    Empty,
    /// A date that can't be reckoned with.
    #[error("the deadline lies outside the calendar")]
    OutOfCalendar(#[from] jiff::Error),
    /// Likewise.
    #[error(transparent)]
    Day(#[from] RetentionError),
}

/// The published arrangements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Names this data; told with every deadline that was reckoned by it.
    pub version: String,
    /// Where it is from.
    pub source: String,
    /// By year.
    years: BTreeMap<i16, Year>,
}

/// One year's arrangement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Year {
    /// Days off, weekends or not.
    off: BTreeSet<Date>,
    /// Weekends that are worked.
    working: BTreeSet<Date>,
}

/// The end of a period of working days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment: midnight in Shanghai at the end of the last day, so 16:00:00Z.
    pub at: Timestamp,
    /// Whether a day was counted that no arrangement covers yet.
    pub is_provisional: bool,
}

impl Calendar {
    /// The packaged one.
    pub fn packaged() -> Result<Self, CalendarError> {
        Self::parse(PACKAGED)
    }

    /// From JSON. See `data/calendar.json` for the form.
    pub fn parse(json: &str) -> Result<Self, CalendarError> {
        let calendar: Self = serde_json::from_str(json)?;
        if calendar.years.is_empty() {
            return Err(CalendarError::Empty);
        }
        for (year, days) in &calendar.years {
            let stray = days.off.iter().chain(&days.working).find(|day| day.year() != *year);
            if let Some(day) = stray.or_else(|| days.off.intersection(&days.working).next()) {
                return Err(CalendarError::Contradiction(*day));
            }
        }
        Ok(calendar)
    }

    /// Whether a day is worked.
    pub fn is_working(&self, day: Date) -> bool {
        let year = self.years.get(&day.year());
        if year.is_some_and(|year| year.off.contains(&day)) {
            return false;
        }
        let is_weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        !is_weekend || year.is_some_and(|year| year.working.contains(&day))
    }

    /// Whether a day's arrangement is published for good.
    pub fn is_settled(&self, day: Date) -> bool {
        let next_is_covered = self.years.contains_key(&(day.year() + 1));
        self.years.contains_key(&day.year()) && (next_is_covered || day <= date(day.year(), 12, LAST_SETTLED))
    }

    /// The end of the `days`-th working day after the day, in Shanghai, of a moment (Article 13): that day is not counted.
    pub fn due(&self, from: Timestamp, days: u32) -> Result<Due, CalendarError> {
        let mut day = day_of(from);
        let (mut left, mut is_provisional) = (days, false);
        while left > 0 {
            day = day.tomorrow()?;
            is_provisional |= !self.is_settled(day);
            left -= u32::from(self.is_working(day));
        }
        Ok(Due { at: end_of_day(day)?, is_provisional })
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn shanghai(text: &str) -> Timestamp {
        format!("{text}+08:00").parse().unwrap()
    }

    /// The last day, as a person in Shanghai says it.
    fn due(calendar: &Calendar, scene_ends: &str) -> (String, bool) {
        let due = calendar.due(shanghai(scene_ends), 2).unwrap();
        let last = day_of(due.at).yesterday().unwrap();
        (last.to_string(), due.is_provisional)
    }

    #[test]
    fn the_regulations_vectors() {
        let calendar = Calendar::packaged().unwrap();
        for (ends, last) in [
            ("2026-02-13", "2026-02-24"),
            ("2026-02-12", "2026-02-14"),
            ("2026-09-30", "2026-10-09"),
            ("2026-10-09", "2026-10-12"),
            ("2025-12-31", "2026-01-05"),
        ] {
            for time in ["00:00:00", "23:59:59"] {
                assert_eq!(due(&calendar, &format!("{ends}T{time}")), (last.to_owned(), false), "{ends} {time}");
            }
        }
    }

    #[test]
    fn the_make_up_days_and_holidays_of_2026() {
        let year = &Calendar::packaged().unwrap().years[&2026];
        let days = |of: &[(i8, i8)]| of.iter().map(|(month, day)| date(2026, *month, *day)).collect::<BTreeSet<_>>();
        assert_eq!(year.working, days(&[(1, 4), (2, 14), (2, 28), (5, 9), (9, 20), (10, 10)]));
        for (month, range) in [(1, 1..=3), (2, 15..=23), (5, 1..=5), (10, 1..=7)] {
            assert!(range.clone().all(|day| year.off.contains(&date(2026, month, day))), "{month} {range:?}");
        }
    }

    #[test]
    fn what_is_not_published_yet_is_provisional() {
        let calendar = Calendar::packaged().unwrap();
        assert_eq!(due(&calendar, "2026-12-21T10:00:00"), ("2026-12-23".into(), false));
        assert_eq!(due(&calendar, "2026-12-24T10:00:00"), ("2026-12-28".into(), true));
        // A Monday: Monday to Friday counting, and no error.
        assert_eq!(due(&calendar, "2031-03-03T10:00:00"), ("2031-03-05".into(), true));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let of = |years: &str| Calendar::parse(&format!(r#"{{"version": "1", "source": "s", "years": {years}}}"#));
        assert!(matches!(of("{}"), Err(CalendarError::Empty)));
        let stray = of(r#"{"2026": {"off": ["2027-01-01"], "working": []}}"#);
        assert!(matches!(stray, Err(CalendarError::Contradiction(_))));
        let both = of(r#"{"2026": {"off": ["2026-01-01"], "working": ["2026-01-01"]}}"#);
        assert!(matches!(both, Err(CalendarError::Contradiction(_))));
        assert!(matches!(of(r#"{"2026": {"of": []}}"#), Err(CalendarError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn exactly_so_many_working_days_lie_between(day in 0i32..2_500, days in 1u32..20) {
            let calendar = Calendar::packaged().unwrap();
            let first = date(2020, 1, 1).checked_add(day.days()).unwrap();
            let due = calendar.due(shanghai(&format!("{first}T12:00:00")), days).unwrap();
            let last = day_of(due.at).yesterday().unwrap();
            let counted = first.series(1.day()).skip(1).take_while(|day| *day <= last);
            prop_assert_eq!(counted.filter(|day| calendar.is_working(*day)).count(), days as usize);
            prop_assert!(calendar.is_working(last));
            prop_assert_eq!(due.at.as_second() % 86_400, 16 * 3_600);
        }
    }
}
