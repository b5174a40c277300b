//! Pictures found by seeking: only what is wanted is decoded.

use std::collections::VecDeque;

use anyhow::Result;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::media::Type;
use ffmpeg_next::{Packet, Rational, frame};

use crate::decode::{Decoding, find_stream, no_stream};
use crate::ffi;
use crate::geometry::Size;
use crate::orientation::Orientation;
use crate::source::{Source, is_plain_stream, read_packet};

/// A keyframe further away than this is not looked for.
const MAX_PACKETS: usize = 5_000;
/// Without an index, a seek ends at or behind the moment; then try so many seconds earlier.
const STEPS_BACK: &[f64] = &[0.0, 2.0, 10.0, 60.0];
/// Most packets decoded, over all, to get from keyframes to moments.
const MAX_DECODED: usize = 4_000;
const MICROSECONDS: f64 = 1_000_000.0;

/// A recording's pictures, in any order.
pub struct Keyframes {
    input: Input,
    stream: usize,
    time_base: Rational,
    start: i64,
    decoding: Decoding,
    /// The moment of the last picture, while there are more after it.
    reached: Option<f64>,
    budget: usize,
    /// Packets that were read to find the keyframe before them.
    ahead: VecDeque<Packet>,
    orientation: Orientation,
    displayed: Size,
}

impl Keyframes {
    /// Opens the recording's first video track.
    pub fn open(source: &Source) -> Result<Self> {
        let input = source.open()?;
        let stream = find_stream(&input, Type::Video).ok_or_else(|| no_stream(&input, Type::Video))?;
        let shape = ffi::stream_shape(&input, &stream);
        let coded = Size { width: shape.width, height: shape.height };
        let orientation = Orientation::of_stream(&stream);
        Ok(Self {
            stream: stream.index(),
            time_base: stream.time_base(),
            start: ffi::start_time(&input).unwrap_or(0),
            decoding: Decoding::open(&stream, 1)?,
            reached: None,
            budget: MAX_DECODED,
            ahead: VecDeque::new(),
            orientation,
            displayed: coded.displayed(shape.pixel_aspect, orientation),
            input,
        })
    }

    /// How pictures are to be turned.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Their size when turned.
    pub fn displayed(&self) -> Size {
        self.displayed
    }

    /// The last keyframe at or before a moment; or, where none is found before it, the first after it.
    pub fn keyframe_at(&mut self, seconds: f64) -> Result<Option<Packet>> {
        let is_plain = is_plain_stream(&self.input);
        let steps = if is_plain { STEPS_BACK } else { &[0.0] };
        let mut later = None;
        for back in steps {
            self.ahead.clear();
            let moment = self.start.saturating_add(((seconds - back) * MICROSECONDS) as i64);
            if self.input.seek(moment, ..moment).is_ok()
                && let Some(packet) = self.next_keyframe()?
            {
                if !is_plain {
                    return Ok(Some(packet));
                }
                if self.is_before(&packet, seconds) {
                    return self.last_keyframe_before(packet, seconds).map(Some);
                }
                later = Some(packet);
            }
        }
        Ok(later)
    }

    /// Reads on from a keyframe to the last one at or before a moment. What was read beyond it comes again.
    fn last_keyframe_before(&mut self, mut last: Packet, seconds: f64) -> Result<Packet> {
        let mut ahead = VecDeque::new();
        while ahead.len() < MAX_PACKETS
            && let Some(packet) = self.next_packet()?
        {
            let is_key = packet.is_key();
            if is_key && self.is_before(&packet, seconds) {
                ahead.clear();
                last = packet;
                continue;
            }
            ahead.push_back(packet);
            if is_key {
                break;
            }
        }
        self.ahead = ahead;
        Ok(last)
    }

    fn is_before(&self, packet: &Packet, seconds: f64) -> bool {
        let moment = self.start as f64 / MICROSECONDS + seconds;
        packet.pts().or(packet.dts()).is_some_and(|ticks| ticks as f64 * f64::from(self.time_base) <= moment)
    }

    /// Reads on to the next packet that stands for itself.
    pub fn next_keyframe(&mut self) -> Result<Option<Packet>> {
        for _ in 0..MAX_PACKETS {
            match self.next_packet()? {
                Some(packet) if packet.is_key() => return Ok(Some(packet)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The picture of one packet alone.
    pub fn decode_alone(&mut self, packet: &Packet) -> Result<Option<frame::Video>> {
        self.reached = None;
        self.decoding.restart();
        let mut picture = frame::Video::empty();
        self.decoding.feed(Some(packet))?;
        let mut taken = self.decoding.take(&mut picture)?;
        if !taken {
            self.decoding.feed(None)?;
            taken = self.decoding.take(&mut picture)?;
        }
        Ok(taken.then_some(picture))
    }

    /// The picture at a moment, decoded on from `first`; the nearest before it if that takes too
    /// long, and the last there is if the recording ends before.
    pub fn decode_until(&mut self, first: Packet, seconds: f64) -> Result<Option<frame::Video>> {
        self.decoding.restart();
        self.decoding.feed(Some(&first))?;
        self.decode_on(seconds)
    }

    /// Whether a moment comes after the one that was last decoded to.
    pub fn is_ahead(&self, seconds: f64) -> bool {
        self.reached.is_some_and(|reached| reached < self.start as f64 / MICROSECONDS + seconds)
    }

    /// The picture at a moment that is ahead, decoded on from the last; the last there is if the recording ends before.
    pub fn decode_on(&mut self, seconds: f64) -> Result<Option<frame::Video>> {
        let moment = self.start as f64 / MICROSECONDS + seconds;
        let (mut last, mut is_over) = (None, false);
        self.reached = None;
        loop {
            let mut picture = frame::Video::empty();
            while self.decoding.take(&mut picture)? {
                let at = picture.timestamp().map(|ticks| ticks as f64 * f64::from(self.time_base));
                last = Some(std::mem::replace(&mut picture, frame::Video::empty()));
                if at.is_some_and(|at| at >= moment) {
                    self.reached = at.filter(|_| !is_over);
                    return Ok(last);
                }
            }
            if is_over {
                return Ok(last);
            }
            self.budget = self.budget.saturating_sub(1);
            let next = if self.budget > 0 { self.next_packet()? } else { None };
            is_over = next.is_none();
            self.decoding.feed(next.as_ref())?;
        }
    }

    /// The next picture there is, for recordings that don't mark their keyframes.
    pub fn next_picture(&mut self) -> Result<Option<frame::Video>> {
        match self.next_packet()? {
            Some(packet) => self.decode_until(packet, 0.0),
            None => Ok(None),
        }
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        if let Some(packet) = self.ahead.pop_front() {
            return Ok(Some(packet));
        }
        while let Some(packet) = read_packet(&mut self.input)? {
            if packet.stream() == self.stream {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }
}
