//! The waveform: the sound's envelope over the whole length. Not FFmpeg's `showwavespic`, which
//! keeps all samples in memory until the end.

use anyhow::Result;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;
use ffmpeg_next::media::Type;

use crate::decode::{Decoding, find_stream, no_stream};
use crate::envelope::{Envelope, Peak};
use crate::failure::{Failure, Reason};
use crate::file::SharedFile;
use crate::filter::SoundFilter;
use crate::jpeg;
use crate::report::Derivative;
use crate::source::{Source, read_packet};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 240;
const FORMAT: &str = "sample_fmts=s16:sample_rates=16000:channel_layouts=mono";
/// Brightness of paper and ink.
const PAPER: u8 = 250;
const INK: u8 = 60;
/// Chroma planes: no colour.
const GREY: u8 = 128;

/// Writes the waveform of the first audio track.
pub fn make(source: &Source, output: &SharedFile) -> Result<Derivative> {
    let peaks = listen(source)?;
    let nothing = || Failure::new(Reason::Unreadable, "no sound can be decoded");
    let mut picture = draw(&peaks.ok_or_else(nothing)?);
    jpeg::write(&mut picture, output)
}

fn listen(source: &Source) -> Result<Option<Vec<Peak>>> {
    let mut input = source.open()?;
    let stream = find_stream(&input, Type::Audio).ok_or_else(|| no_stream(&input, Type::Audio))?;
    let index = stream.index();
    let mut filter = SoundFilter::new(FORMAT, stream.time_base(), None);
    let mut decoding = Decoding::open(&stream, 1)?;
    let mut envelope = Envelope::new(WIDTH as usize);
    let mut hear = |sound: frame::Audio| {
        envelope.extend(sound.plane(0));
        Ok(())
    };
    loop {
        let packet = read_packet(&mut input)?;
        if packet.as_ref().is_some_and(|packet| packet.stream() != index) {
            continue;
        }
        decoding.feed(packet.as_ref())?;
        let mut sound = frame::Audio::empty();
        while decoding.take(&mut sound)? {
            filter.push(std::mem::replace(&mut sound, frame::Audio::empty()), &mut hear)?;
        }
        if packet.is_none() {
            break;
        }
    }
    filter.finish(&mut hear)?;
    Ok(envelope.finish())
}

fn draw(peaks: &[Peak]) -> frame::Video {
    let mut picture = frame::Video::new(Pixel::YUVJ420P, WIDTH, HEIGHT);
    picture.data_mut(0).fill(PAPER);
    picture.data_mut(1).fill(GREY);
    picture.data_mut(2).fill(GREY);
    let stride = picture.stride(0);
    let row = |sample: i16| {
        let middle = i32::from(HEIGHT as u16) / 2;
        (middle - i32::from(sample) * (middle - 1) / 32_768) as usize
    };
    for (column, (low, high)) in peaks.iter().enumerate() {
        for row in row(*high)..=row(*low) {
            picture.data_mut(0)[row * stride + column] = INK;
        }
    }
    picture
}
