//! How long a recording must be kept (Article 15): at least the floor, and as long as the cases it is evidence in ([`rule`]).

pub mod rule;

use jiff::{
    Span, Timestamp, ToSpan,
    civil::{Date, Time},
};

/// The law's least period for footage that is not evidence: six calendar months (Article 15).
pub fn legal_minimum() -> Span {
    6.months()
}

/// The longest period, in years.
const LONGEST_YEARS: i32 = 100;

/// Why a retention period can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// A date beyond the calendar.
    #[error("the retention period leads outside the calendar")]
    OutOfCalendar(#[from] jiff::Error),
    /// Less than the law's six months.
    #[error("the retention period is shorter than six months (P6M), the least that Article 15 allows")]
    TooShort,
    /// More than a mistake may lock.
    #[error("the retention period is longer than a hundred years (P100Y), and nobody takes such a lock back")]
    TooLong,
}

/// Refuses a period that is longer than a hundred years.
pub fn check_longest(period: &Span) -> Result<(), RetentionError> {
    match end_of(Timestamp::UNIX_EPOCH, period)? <= end_of(Timestamp::UNIX_EPOCH, &LONGEST_YEARS.years())? {
        true => Ok(()),
        false => Err(RetentionError::TooLong),
    }
}

/// Refuses a period that is shorter than six months, whatever day it is counted from, or longer than a hundred years.
pub fn check_period(period: &Span) -> Result<(), RetentionError> {
    check_longest(period)?;
    // Months differ in length: P180D is shorter than six months from some days and not from others. Every day of a
    // leap cycle is asked.
    let first = jiff::civil::date(2024, 1, 1);
    for day in 0..(4 * 366) {
        let from = first.checked_add(day.days())?;
        if from.checked_add(*period)? < from.checked_add(legal_minimum())? {
            return Err(RetentionError::TooShort);
        }
    }
    Ok(())
}

/// The end of the day, in Shanghai, that lies `period` after a moment: always 16:00:00Z. Months are calendar months, clamped at
/// the month's end (31 August and six months is 28 or 29 February).
///
/// A period in clock units alone counts from the moment itself. [`check_period`] refuses those; tests that watch locks run
/// out use them.
pub fn end_of(from: Timestamp, period: &Span) -> Result<Timestamp, RetentionError> {
    if is_in_clock_units(period) {
        return Ok(crate::time::whole_seconds(from.checked_add(*period)?));
    }
    end_of_day(crate::time::day_of(from).checked_add(*period)?)
}

/// Whether a period has no days, months or years.
pub fn is_in_clock_units(period: &Span) -> bool {
    (period.get_years(), period.get_months(), period.get_weeks(), period.get_days()) == (0, 0, 0, 0)
}

/// The end of a day in Shanghai: 16:00:00Z.
pub fn end_of_day(day: Date) -> Result<Timestamp, RetentionError> {
    Ok(crate::time::shanghai().to_timestamp(day.tomorrow()?.to_datetime(Time::midnight()))?)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn six_calendar_months_to_the_end_of_the_day_in_shanghai() {
        for (stored, until) in [
            ("2026-02-13T02:00:00Z", "2026-08-13T16:00:00Z"),
            // 31 August in Shanghai, clamped to the end of February.
            ("2026-08-31T01:00:00Z", "2027-02-28T16:00:00Z"),
            ("2027-08-31T01:00:00Z", "2028-02-29T16:00:00Z"),
            // 15:59:59Z is still the same day in Shanghai, 16:00:00Z the next.
            ("2026-03-10T15:59:59Z", "2026-09-10T16:00:00Z"),
            ("2026-03-10T16:00:00Z", "2026-09-11T16:00:00Z"),
        ] {
            assert_eq!(end_of(at(stored), &legal_minimum()).unwrap(), at(until), "{stored}");
        }
    }

    #[test]
    fn less_than_the_law_asks_is_refused() {
        for short in ["P5M", "P180D", "P181D", "P5M30D", "PT1H"] {
            assert!(check_period(&short.parse().unwrap()).is_err(), "{short}");
        }
        for long in ["P6M", "P184D", "P1Y", "P6M1D"] {
            assert!(check_period(&long.parse().unwrap()).is_ok(), "{long}");
        }
    }

    #[test]
    fn more_than_a_hundred_years_is_refused() {
        for long in ["P100Y1D", "P600Y", "P1201M"] {
            assert!(matches!(check_period(&long.parse().unwrap()), Err(RetentionError::TooLong)), "{long}");
        }
        assert!(check_period(&"P100Y".parse().unwrap()).is_ok());
    }

    proptest! {
        #[test]
        fn never_shorter_than_six_months(seconds in 1_700_000_000i64..4_000_000_000) {
            let stored = Timestamp::from_second(seconds).unwrap();
            let until = end_of(stored, &legal_minimum()).unwrap();
            let least = stored.to_zoned_datetime(crate::time::shanghai()).checked_add(6.months()).unwrap().timestamp();
            prop_assert!(until > least);
            prop_assert!(until.duration_since(least) <= SignedDuration::from_hours(24));
            prop_assert_eq!(until.as_second() % 86_400, 16 * 3_600);
        }
    }
}
