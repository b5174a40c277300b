//! The clock as a parameter, and conversions between protobuf's and our time stamps.

use std::sync::Arc;

pub use jiff::Timestamp;
use jiff::{civil::Date, tz::TimeZone};

/// A clock. Rules never read one of their own, so that they can be tested on any date.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Protobuf's time stamp.
pub type ProtoTimestamp = prost_types::Timestamp;

/// The law's time zone. China has no daylight saving time: +8 holds for every date a recording can be of.
pub fn shanghai() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(8))
}

/// The day of a moment in Shanghai.
pub fn day_of(at: Timestamp) -> Date {
    at.to_zoned_datetime(shanghai()).date()
}

/// A moment as people read it: by the clocks of Shanghai, to the second. Lock dates are not rounded up.
pub fn local(at: Timestamp) -> String {
    at.to_zoned_datetime(shanghai()).strftime("%Y-%m-%d %H:%M:%S+08:00").to_string()
}

/// A time stamp as a protobuf message. Keeps nanoseconds.
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    // jiff keeps seconds and nanoseconds of one sign; protobuf wants nanoseconds from 0 upwards.
    let nanos = at.as_nanosecond();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000) as i64,
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

/// A time stamp from a protobuf message; `None` where it is outside the years -9999 to 9999 or malformed.
pub fn from_proto(at: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)).ok()
}

/// The same moment without its fraction of a second: what documents and locks carry.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_nanosecond().div_euclid(1_000_000_000) as i64).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_wire_before_and_after_the_epoch() {
        for text in ["1969-12-31T23:59:59.25Z", "2026-02-13T01:02:03.000000004Z"] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(from_proto(&to_proto(at)), Some(at));
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        let bad = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(from_proto(&bad), None);
        let bad = prost_types::Timestamp { seconds: 0, nanos: -1 };
        assert_eq!(from_proto(&bad), None);
    }
}
