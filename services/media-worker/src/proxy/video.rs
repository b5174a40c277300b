//! The proxy's pictures: H.264 at most 720 high, each at the time it was taken.

use anyhow::{Context, Result};
use ffmpeg_next::codec::{self, Flags, Id};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::media::Type;
use ffmpeg_next::{Dictionary, Packet, Rational, Rescale, color, encoder, frame};

use super::mp4::{Mp4, Track};
use crate::decode::{Decoding, find_stream, threads};
use crate::ffi::{self, Colour};
use crate::filter::{PictureFilter, Use};
use crate::geometry::Size;
use crate::orientation::Orientation;
use crate::probe;

const LARGEST: Size = Size { width: 4096, height: 720 };
const PRESET: &str = "veryfast";
const CRF: &str = "23";
/// Pictures from one point to seek to, to the next.
const GOP: u32 = 60;
/// Fine enough for every common rate, and exact for most.
const TIME_BASE: Rational = Rational(1, 90_000);
const USUAL_RATE: f64 = 25.0;

/// One video track on its way from the original to the proxy.
pub struct VideoTrack {
    stream: usize,
    time_base: Rational,
    decoding: Decoding,
    filter: PictureFilter,
    encoder: encoder::video::Encoder,
    track: Track,
    size: Size,
    picture_length: i64,
    last: Option<i64>,
}

impl VideoTrack {
    /// Sets up the first video track that can be decoded, if there is any.
    pub fn open(input: &Input, mp4: &mut Mp4) -> Result<Option<Self>> {
        let Some(stream) = find_stream(input, Type::Video) else {
            return Ok(None);
        };
        let shape = ffi::stream_shape(input, &stream);
        let orientation = Orientation::of_stream(&stream);
        let coded = Size { width: shape.width, height: shape.height };
        let size = coded.displayed(shape.pixel_aspect, orientation).fit(LARGEST).even();
        // A rate is needed only to plan by; pictures keep their own times.
        let rate = probe::rate(stream.avg_frame_rate()).unwrap_or(USUAL_RATE).clamp(1.0, 240.0);
        let decoding = Decoding::open(&stream, threads())?;
        let encoder = open_encoder(size, rate, shape.colour)?;
        Ok(Some(Self {
            stream: stream.index(),
            time_base: stream.time_base(),
            filter: PictureFilter::new(orientation, size, Use::Video),
            track: mp4.add(&encoder)?,
            size,
            picture_length: (f64::from(TIME_BASE.denominator()) / rate) as i64,
            last: None,
            decoding,
            encoder,
        }))
    }

    /// The original's stream this is made of.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// Size of the proxy's pictures.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How many packets or pictures could not be decoded.
    pub fn damaged(&self) -> u64 {
        self.decoding.damaged()
    }

    /// Carries on with a packet, or to the end.
    pub fn add(&mut self, packet: Option<&Packet>, mp4: &mut Mp4) -> Result<()> {
        self.decoding.feed(packet)?;
        let mut picture = frame::Video::empty();
        while self.decoding.take(&mut picture)? {
            let picture = std::mem::replace(&mut picture, frame::Video::empty());
            self.encode(picture, mp4)?;
        }
        if packet.is_none() {
            self.encoder.send_eof().context("end H.264")?;
            self.write(mp4)?;
        }
        Ok(())
    }

    fn encode(&mut self, picture: frame::Video, mp4: &mut Mp4) -> Result<()> {
        let stated = picture.timestamp().map(|stamp| stamp.rescale(self.time_base, TIME_BASE));
        let expected = self.last.map_or(0, |last| last.saturating_add(self.picture_length));
        let at = stated.unwrap_or(expected);
        // Two pictures at one time, or one before the beginning, can't be shown.
        if at < 0 || self.last.is_some_and(|last| at <= last) {
            return Ok(());
        }
        let mut picture = self.filter.apply(picture)?;
        picture.set_pts(Some(at));
        self.last = Some(at);
        self.encoder.send_frame(&picture).context("encode H.264")?;
        self.write(mp4)
    }

    fn write(&mut self, mp4: &mut Mp4) -> Result<()> {
        // The muxer takes the length of the last picture from here, of others from the next.
        mp4.write_from(&mut self.encoder, self.track, Some(self.picture_length))
    }
}

fn open_encoder(size: Size, rate: f64, colour: Colour) -> Result<encoder::video::Encoder> {
    let codec = encoder::find_by_name("libx264").context("find libx264")?;
    anyhow::ensure!(codec.id() == Id::H264, "libx264 makes no H.264");
    let mut context = codec::Context::new_with_codec(codec);
    // Setting flags replaces the encoder's defaults, and without closed groups a browser that
    // seeks finds pictures it can't decode.
    context.set_flags(Flags::GLOBAL_HEADER | Flags::CLOSED_GOP);
    context.set_time_base(TIME_BASE);
    context.set_frame_rate(Some(Rational::from(rate)));
    let mut encoder = context.encoder().video()?;
    encoder.set_width(size.width);
    encoder.set_height(size.height);
    encoder.set_format(Pixel::YUV420P);
    encoder.set_gop(GOP);
    encoder.set_color_range(color::Range::MPEG);
    if colour.space != color::Space::RGB {
        encoder.set_colorspace(colour.space);
    }
    encoder.set_color_primaries(colour.primaries);
    encoder.set_color_transfer_characteristic(colour.transfer);
    let mut options = Dictionary::new();
    options.set("preset", PRESET);
    options.set("crf", CRF);
    options.set("threads", &threads().to_string());
    encoder.open_with(options).context("open libx264")
}
