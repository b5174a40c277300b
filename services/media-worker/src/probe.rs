//! What the container says.

use std::collections::BTreeMap;

use ffmpeg_next::format::context::Input;
use ffmpeg_next::media::Type;
use ffmpeg_next::{Rational, Stream, ffi::AV_NOPTS_VALUE};

use crate::ffi;
use crate::orientation::Orientation;
use crate::report::{Probe, StreamProbe};

const MICROSECONDS: f64 = 1_000_000.0;
/// Tags beyond these bounds are a curiosity of the file, not of use to anyone.
const MAX_TAGS: usize = 64;
const MAX_TAG_CHARS: usize = 256;
/// What the container's writer needs and nobody asks for.
const DULL_TAGS: &[&str] = &["major_brand", "minor_version", "compatible_brands"];

/// Reads an opened input's description.
pub fn read(input: &Input) -> Probe {
    let mut tags: BTreeMap<String, String> = ffi::entries(&input.metadata())
        .into_iter()
        .filter(|(key, _)| !DULL_TAGS.contains(&key.as_str()))
        .map(|(key, value)| (clip(&key), clip(&value)))
        .take(MAX_TAGS)
        .collect();
    Probe {
        container: input.format().name().to_owned(),
        duration_seconds: known(input.duration()).map(|ticks| ticks as f64 / MICROSECONDS),
        bit_rate: Some(input.bit_rate()).filter(|rate| *rate > 0),
        creation_time: tags.remove("creation_time"),
        tags,
        streams: input.streams().map(|stream| read_stream(input, &stream)).collect(),
    }
}

fn read_stream(input: &Input, stream: &Stream<'_>) -> StreamProbe {
    let parameters = stream.parameters();
    let shape = ffi::stream_shape(input, stream);
    let video = parameters.medium() == Type::Video;
    let audio = parameters.medium() == Type::Audio;
    let number = |wanted: bool, value: u32| Some(value).filter(|value| wanted && *value > 0);
    StreamProbe {
        kind: kind(parameters.medium()),
        codec: parameters.id().name(),
        width: number(video, shape.width),
        height: number(video, shape.height),
        rotation: video.then(|| Orientation::of_stream(stream).degrees()),
        frame_rate: rate(stream.avg_frame_rate()).filter(|_| video),
        sample_rate: number(audio, shape.sample_rate),
        channels: number(audio, shape.channels),
        duration_seconds: known(stream.duration()).map(|ticks| ticks as f64 * f64::from(stream.time_base())),
    }
}

fn kind(medium: Type) -> &'static str {
    match medium {
        Type::Video => "video",
        Type::Audio => "audio",
        Type::Subtitle => "subtitle",
        Type::Attachment => "attachment",
        Type::Data | Type::Unknown => "data",
    }
}

/// A rate as a number, if it is one.
pub fn rate(rate: Rational) -> Option<f64> {
    (rate.numerator() > 0 && rate.denominator() > 0).then(|| f64::from(rate))
}

fn known(ticks: i64) -> Option<i64> {
    (ticks != AV_NOPTS_VALUE && ticks > 0).then_some(ticks)
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_TAG_CHARS).collect()
}
