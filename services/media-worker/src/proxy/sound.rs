//! The proxy's sound: AAC at 48 kHz, fitted to the pictures' time.

use anyhow::{Context, Result};
use ffmpeg_next::codec::{self, Flags, Id};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::sample;
use ffmpeg_next::media::Type;
use ffmpeg_next::{ChannelLayout, Packet, Rational, encoder, format, frame};

use super::mp4::{Mp4, Track};
use crate::decode::{Decoding, find_stream};
use crate::ffi;
use crate::filter::SoundFilter;

const RATE: i32 = 48_000;
const MONO: &str = "sample_fmts=fltp:sample_rates=48000:channel_layouts=mono";
const STEREO: &str = "sample_fmts=fltp:sample_rates=48000:channel_layouts=stereo";
const BITS_PER_CHANNEL: usize = 64_000;

/// One audio track on its way from the original to the proxy.
pub struct SoundTrack {
    stream: usize,
    decoding: Decoding,
    filter: SoundFilter,
    encoding: Encoding,
}

/// The encoder's side, apart from the filter that hands frames to it.
struct Encoding {
    encoder: encoder::audio::Encoder,
    track: Track,
    next: i64,
}

impl SoundTrack {
    /// Sets up the first audio track that can be decoded, if there is any.
    pub fn open(input: &Input, mp4: &mut Mp4) -> Result<Option<Self>> {
        let Some(stream) = find_stream(input, Type::Audio) else {
            return Ok(None);
        };
        let mono = ffi::stream_shape(input, &stream).channels == 1;
        let encoder = open_encoder(mono)?;
        let samples = Some(encoder.frame_size());
        let filter = SoundFilter::new(if mono { MONO } else { STEREO }, stream.time_base(), samples);
        let track = mp4.add(&encoder)?;
        Ok(Some(Self {
            stream: stream.index(),
            decoding: Decoding::open(&stream, 1)?,
            filter,
            encoding: Encoding { encoder, track, next: 0 },
        }))
    }

    /// The original's stream this is made of.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// How many packets or frames could not be decoded.
    pub fn damaged(&self) -> u64 {
        self.decoding.damaged()
    }

    /// Carries on with a packet, or to the end.
    pub fn add(&mut self, packet: Option<&Packet>, mp4: &mut Mp4) -> Result<()> {
        self.decoding.feed(packet)?;
        let encoding = &mut self.encoding;
        let mut emit = |sound| encoding.encode(sound, mp4);
        let mut sound = frame::Audio::empty();
        while self.decoding.take(&mut sound)? {
            self.filter.push(std::mem::replace(&mut sound, frame::Audio::empty()), &mut emit)?;
        }
        if packet.is_none() {
            self.filter.finish(&mut emit)?;
            self.encoding.finish(mp4)?;
        }
        Ok(())
    }
}

impl Encoding {
    /// The filter has made the samples follow each other without holes, so counting them is
    /// telling the time.
    fn encode(&mut self, mut sound: frame::Audio, mp4: &mut Mp4) -> Result<()> {
        sound.set_pts(Some(self.next));
        self.next += sound.samples() as i64;
        self.encoder.send_frame(&sound).context("encode AAC")?;
        mp4.write_from(&mut self.encoder, self.track, None)
    }

    fn finish(&mut self, mp4: &mut Mp4) -> Result<()> {
        self.encoder.send_eof().context("end AAC")?;
        mp4.write_from(&mut self.encoder, self.track, None)
    }
}

fn open_encoder(mono: bool) -> Result<encoder::audio::Encoder> {
    let codec = encoder::find(Id::AAC).context("find the AAC encoder")?;
    let mut context = codec::Context::new_with_codec(codec);
    context.set_flags(Flags::GLOBAL_HEADER);
    context.set_time_base(Rational(1, RATE));
    let mut encoder = context.encoder().audio()?;
    let layout = if mono { ChannelLayout::MONO } else { ChannelLayout::STEREO };
    encoder.set_rate(RATE);
    encoder.set_channel_layout(layout);
    encoder.set_format(format::Sample::F32(sample::Type::Planar));
    encoder.set_bit_rate(BITS_PER_CHANNEL * layout.channels() as usize);
    encoder.open().context("open the AAC encoder")
}
