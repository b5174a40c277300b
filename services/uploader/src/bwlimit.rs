//! `--bwlimit` in rclone's grammar: one rate, or a timetable.

use std::{str::FromStr, sync::Arc, time::Duration};

use caselock_client::Throttle;
use jiff::{ZonedDateTime, civil::Weekday};

/// How often the timetable is looked at.
const LOOK: Duration = Duration::from_secs(20);

/// Rates over the week. Clone is cheap enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable(Vec<Slot>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// `None` for every day.
    day: Option<Weekday>,
    /// Minutes after midnight from which the rate holds.
    minute: u16,
    /// Bytes a second; 0 for no limit.
    rate: u64,
}

impl FromStr for Timetable {
    type Err = String;

    /// `10M`, or `08:00,512k 12:00,10M`, or `Mon-08:00,512k Sat-00:00,off`. Rates are KiB a second unless a suffix (B, K, M,
    /// G) says otherwise; of `up:down` the first counts.
    fn from_str(text: &str) -> Result<Self, String> {
        let slots: Result<Vec<_>, _> = text.split_whitespace().map(slot).collect();
        match slots? {
            slots if slots.is_empty() => Err("expected a rate such as 10M, or a timetable".into()),
            slots => Ok(Self(slots)),
        }
    }
}

impl Timetable {
    /// The rate at a moment, in bytes a second; 0 for no limit. The slot that began last holds, from the week before if
    /// none has begun in this one.
    fn rate_at(&self, now: &ZonedDateTime) -> u64 {
        const DAY: i64 = 24 * 60;
        const WEEK: i64 = 7 * DAY;
        let minute = i64::from(now.hour()) * 60 + i64::from(now.minute());
        let now = i64::from(now.weekday().to_monday_zero_offset()) * DAY + minute;
        let ago = |slot: &Slot| match slot.day {
            Some(day) => (now - i64::from(day.to_monday_zero_offset()) * DAY - i64::from(slot.minute)).rem_euclid(WEEK),
            None => (minute - i64::from(slot.minute)).rem_euclid(DAY),
        };
        self.0.iter().min_by_key(|slot| ago(slot)).map_or(0, |slot| slot.rate)
    }

    /// Keeps the throttle at the timetable's rate for as long as the process lives.
    pub async fn apply(self, throttle: Arc<Throttle>) {
        loop {
            throttle.set(self.rate_at(&ZonedDateTime::now()));
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn slot(text: &str) -> Result<Slot, String> {
    let Some((when, rate_text)) = text.split_once(',') else {
        return Ok(Slot { day: None, minute: 0, rate: rate(text)? });
    };
    let wrong = || format!("{when:?} is not a time such as 08:00 or Mon-08:00");
    let (day, time) = match when.split_once('-') {
        Some((day, time)) => (Some(weekday(day).ok_or_else(wrong)?), time),
        None => (None, when),
    };
    let (hour, minute) = time.split_once(':').ok_or_else(wrong)?;
    let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
    if hour > 23 || minute > 59 {
        return Err(wrong());
    }
    Ok(Slot { day, minute: hour * 60 + minute, rate: rate(rate_text)? })
}

fn rate(text: &str) -> Result<u64, String> {
    let up = text.split_once(':').map_or(text, |(up, _)| up);
    if up.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    let wrong = || format!("{text:?} is not a rate such as 512k, 10M or off");
    let (digits, unit) = match up.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => up.split_at(at),
        None => (up, "K"),
    };
    let factor: f64 = match unit.to_ascii_uppercase().trim_end_matches("IB") {
        "B" => 1.0,
        "K" => 1024.0,
        "M" => 1_048_576.0,
        "G" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number < 0.0 {
        return Err(wrong());
    }
    Ok((number * factor) as u64)
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let text = text.to_lowercase();
    days.into_iter().find(|(name, _)| text.starts_with(name)).map(|(_, day)| day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(table: &str, when: &str) -> u64 {
        let when: ZonedDateTime = format!("{when}[Asia/Shanghai]").parse().unwrap();
        table.parse::<Timetable>().unwrap().rate_at(&when)
    }

    #[test]
    fn rates_are_rclones() {
        for (text, bytes) in [
            ("100", 102_400),
            ("10M", 10 << 20),
            ("512k", 512 << 10),
            ("1.5M", 1_572_864),
            ("off", 0),
            ("7B", 7),
            ("10M:1M", 10 << 20),
        ] {
            assert_eq!(at(text, "2026-11-23T10:00:00+08:00"), bytes, "{text}");
        }
        for bad in ["", "fast", "08:00,", "25:00,1M", "Xyz-08:00,1M", "-3M", "10X"] {
            assert!(bad.parse::<Timetable>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_slot_that_began_last_holds() {
        // 2026-11-23 is a Monday.
        let table = "08:00,512k 18:00,10M 23:00,off";
        assert_eq!(at(table, "2026-11-23T08:00:00+08:00"), 512 << 10);
        assert_eq!(at(table, "2026-11-23T17:59:00+08:00"), 512 << 10);
        assert_eq!(at(table, "2026-11-23T20:00:00+08:00"), 10 << 20);
        assert_eq!(at(table, "2026-11-23T03:00:00+08:00"), 0);
        let week = "Mon-08:00,1M Sat-00:00,off";
        assert_eq!(at(week, "2026-11-23T07:00:00+08:00"), 0);
        assert_eq!(at(week, "2026-11-26T07:00:00+08:00"), 1 << 20);
        assert_eq!(at(week, "2026-11-29T07:00:00+08:00"), 0);
    }
}
