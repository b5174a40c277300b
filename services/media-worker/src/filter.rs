//! Filter graphs that survive a change of format in the middle of a recording.

use anyhow::{Context, Result};
use ffmpeg_next::filter::{self, Graph};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{ChannelLayout, Rational, format, frame, picture};

use crate::ffi;
use crate::geometry::Size;
use crate::orientation::Orientation;

/// What pictures are made for.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// JPEG: BT.601 in full range, as JFIF has it.
    Still,
    /// Video: limited range, the recording's own matrix.
    Video,
}

/// Turns and scales pictures: one in, one out.
pub struct PictureFilter {
    chain: String,
    graph: Option<(PictureShape, Graph)>,
}

type PictureShape = (u32, u32, Pixel);

impl PictureFilter {
    /// A filter whose pictures all have `size`, whatever comes in.
    pub fn new(orientation: Orientation, size: Size, target: Use) -> Self {
        let Size { width, height } = size;
        let turn = orientation.filters();
        let format = match target {
            Use::Still => "out_color_matrix=bt601:out_range=pc,format=yuvj420p",
            Use::Video => "out_range=tv,format=yuv420p",
        };
        let chain = format!("{turn}scale={width}:{height}:flags=bicubic:{format},setsar=1");
        Self { chain, graph: None }
    }

    /// Takes a decoded picture and returns it as it should be.
    pub fn apply(&mut self, picture: frame::Video) -> Result<frame::Video> {
        let shape = (picture.width(), picture.height(), picture.format());
        let graph = match self.graph.take() {
            Some((known, graph)) if known == shape => graph,
            _ => self.build(shape)?,
        };
        let (_, graph) = self.graph.insert((shape, graph));
        graph.get("in").context("find the source")?.source().add(&picture).context("filter")?;
        let mut filtered = frame::Video::empty();
        graph.get("out").context("find the sink")?.sink().frame(&mut filtered).context("filter")?;
        // A decoded picture's type would be taken by the encoder as a wish.
        filtered.set_kind(picture::Type::None);
        Ok(filtered)
    }

    fn build(&self, (width, height, format): PictureShape) -> Result<Graph> {
        let format = format.descriptor().context("name the pixel format")?.name();
        let source = format!("video_size={width}x{height}:pix_fmt={format}:time_base=1/90000");
        connect(("buffer", &source), &self.chain, "buffersink")
    }
}

/// Resamples and mixes sound, and fits it to its timestamps: silence where there is none, cuts
/// where there is too much, beginning at zero.
pub struct SoundFilter {
    format: &'static str,
    time_base: Rational,
    frame_samples: Option<u32>,
    graph: Option<(SoundShape, Graph)>,
    begun: bool,
}

type SoundShape = (format::Sample, ChannelLayout, u32);

impl SoundFilter {
    /// A filter from a stream's time base to `format`, the arguments of `aformat`; into frames of
    /// `frame_samples`, if given. Timestamps leave it in samples.
    pub fn new(format: &'static str, time_base: Rational, frame_samples: Option<u32>) -> Self {
        Self { format, time_base, frame_samples, graph: None, begun: false }
    }

    /// Takes decoded sound and hands on what is ready.
    pub fn push(&mut self, mut sound: frame::Audio, emit: &mut impl FnMut(frame::Audio) -> Result<()>) -> Result<()> {
        if sound.channel_layout().is_empty() {
            sound.set_channel_layout(ChannelLayout::default(sound.channels().into()));
        }
        let shape = (sound.format(), sound.channel_layout(), sound.rate());
        if self.graph.as_ref().is_none_or(|(known, _)| *known != shape) {
            self.finish(emit)?;
            self.graph = Some((shape, self.build(shape)?));
            self.begun = true;
        }
        if let Some((_, graph)) = &mut self.graph {
            graph.get("in").context("find the source")?.source().add(&sound).context("filter")?;
            drain(graph, emit)?;
        }
        Ok(())
    }

    /// Hands on what is left.
    pub fn finish(&mut self, emit: &mut impl FnMut(frame::Audio) -> Result<()>) -> Result<()> {
        let Some((_, mut graph)) = self.graph.take() else {
            return Ok(());
        };
        graph.get("in").context("find the source")?.source().flush().context("end the filter")?;
        drain(&mut graph, emit)
    }

    fn build(&self, (format, layout, rate): SoundShape) -> Result<Graph> {
        let Rational(numerator, denominator) = self.time_base;
        let source = format!(
            "time_base={numerator}/{denominator}:sample_rate={rate}:sample_fmt={}:channel_layout={:#x}",
            format.name(),
            layout.bits(),
        );
        // Only the first graph begins at zero; one built later goes on where the sound is.
        let start = if self.begun { "" } else { ":first_pts=0" };
        let chain = format!("aresample=async=1{start},aformat={}", self.format);
        let mut graph = connect(("abuffer", &source), &chain, "abuffersink")?;
        if let Some(samples) = self.frame_samples {
            graph.get("out").context("find the sink")?.sink().set_frame_size(samples);
        }
        Ok(graph)
    }
}

fn drain(graph: &mut Graph, emit: &mut impl FnMut(frame::Audio) -> Result<()>) -> Result<()> {
    let mut out = graph.get("out").context("find the sink")?;
    let mut sound = frame::Audio::empty();
    // The sink has nothing to say but "more, please" and "the end".
    while out.sink().frame(&mut sound).is_ok() {
        emit(std::mem::replace(&mut sound, frame::Audio::empty()))?;
    }
    Ok(())
}

fn connect(source: (&str, &str), chain: &str, sink: &str) -> Result<Graph> {
    let find = |name: &str| filter::find(name).with_context(|| format!("find filter {name}"));
    let mut graph = Graph::new();
    ffi::use_one_thread(&mut graph);
    graph.add(&find(source.0)?, "in", source.1).with_context(|| format!("filter {source:?}"))?;
    graph.add(&find(sink)?, "out", "").with_context(|| format!("filter {sink}"))?;
    let connected = graph.output("in", 0)?.input("out", 0)?.parse(chain);
    connected.with_context(|| format!("filter {chain}"))?;
    graph.validate().with_context(|| format!("filter {chain}"))?;
    Ok(graph)
}
