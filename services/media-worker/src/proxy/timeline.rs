//! Time: from zero, without leaps that are none.

use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, Rational, Rescale, Rounding};

use crate::ffi;
use crate::source::is_plain_stream;

const MICROSECONDS: Rational = Rational(1, 1_000_000);
const SECOND: i64 = 1_000_000;
/// A step back is always a new beginning: within a stream, decoding order doesn't go back.
const LARGEST_STEP_BACK: i64 = SECOND;
/// In transport and program streams, clocks leap where recordings were joined.
const LARGEST_STEP_JOINED: i64 = 10 * SECOND;
/// Elsewhere a gap is a gap (recorders pause), up to what must be damage.
const LARGEST_STEP: i64 = 3600 * SECOND;

/// Shifts packets so that the recording begins at zero and goes on where its clock leaps.
#[derive(Debug)]
pub struct Timeline {
    shift: i64,
    largest_step: i64,
    time_bases: Vec<Rational>,
    expected: Vec<Option<i64>>,
}

impl Timeline {
    /// The timeline of a recording from its beginning.
    pub fn new(input: &Input) -> Self {
        let joined = is_plain_stream(input);
        let time_bases = input.streams().map(|stream| stream.time_base()).collect();
        Self::with(ffi::start_time(input).unwrap_or(0), joined, time_bases)
    }

    fn with(start: i64, joined: bool, time_bases: Vec<Rational>) -> Self {
        let largest_step = if joined { LARGEST_STEP_JOINED } else { LARGEST_STEP };
        Self { shift: start, largest_step, expected: vec![None; time_bases.len()], time_bases }
    }

    /// Sets a packet's timestamps to where it belongs.
    pub fn place(&mut self, packet: &mut Packet) {
        let index = packet.stream();
        // A stream that appeared late is in no track.
        let Some(time_base) = self.time_bases.get(index).copied() else {
            return;
        };
        if let Some(stamp) = packet.dts().or(packet.pts()) {
            let at = stamp.rescale(time_base, MICROSECONDS);
            if let Some(expected) = self.expected[index] {
                let step = at.saturating_sub(self.shift).saturating_sub(expected);
                if step < -LARGEST_STEP_BACK || step > self.largest_step {
                    self.shift = self.shift.saturating_add(step);
                }
            }
            let length = packet.duration().rescale(time_base, MICROSECONDS);
            self.expected[index] = Some(at.saturating_sub(self.shift).saturating_add(length));
        }
        let shift = self.shift.rescale_with(MICROSECONDS, time_base, Rounding::NearInfinity);
        packet.set_pts(packet.pts().map(|stamp| stamp.saturating_sub(shift)));
        packet.set_dts(packet.dts().map(|stamp| stamp.saturating_sub(shift)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places packets a second long at these seconds and returns where they went.
    fn place(timeline: &mut Timeline, seconds: &[i64]) -> Vec<i64> {
        let place_one = |second: &i64| {
            let mut packet = Packet::empty();
            packet.set_stream(0);
            packet.set_pts(Some(second * 1000));
            packet.set_dts(Some(second * 1000));
            packet.set_duration(1000);
            timeline.place(&mut packet);
            packet.pts().unwrap() / 1000
        };
        seconds.iter().map(place_one).collect()
    }

    #[test]
    fn begins_at_zero_and_keeps_gaps() {
        let mut timeline = Timeline::with(100 * SECOND, false, vec![Rational(1, 1000)]);
        assert_eq!(place(&mut timeline, &[100, 101, 400, 401]), [0, 1, 300, 301]);
    }

    #[test]
    fn joined_streams_go_on_where_the_clock_leaps() {
        let mut timeline = Timeline::with(0, true, vec![Rational(1, 1000)]);
        assert_eq!(place(&mut timeline, &[0, 1, 5000, 5001, 3, 4]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn absurd_stamps_are_no_gap() {
        let mut timeline = Timeline::with(0, false, vec![Rational(1, 1000)]);
        assert_eq!(place(&mut timeline, &[0, 1, 90_000_000, 90_000_001]), [0, 1, 2, 3]);
    }
}
