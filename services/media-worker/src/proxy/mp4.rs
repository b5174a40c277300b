//! The MP4 file. Its index (`moov`) goes to the front, so that a browser may begin, and seek,
//! before it has the whole file. libavformat does that itself once it may read its output back
//! (see [`RereadableOutput`]): it knows how offsets grow past 4 GiB, and a plain, unfragmented
//! file is what every player seeks in.

use anyhow::{Context, Result};
use ffmpeg_next::encoder::Encoder;
use ffmpeg_next::{Dictionary, Packet, Rational, codec};

use crate::ffi::RereadableOutput;
use crate::file::SharedFile;
use crate::source::is_own_fault;

/// An MP4 file being written.
pub struct Mp4 {
    output: RereadableOutput,
    tracks: Vec<Rational>,
    end_seconds: f64,
}

/// A track of an [`Mp4`].
#[derive(Clone, Copy, Debug)]
pub struct Track(usize);

impl Mp4 {
    /// An empty file.
    pub fn new(file: &SharedFile) -> Result<Self> {
        let output = RereadableOutput::new(file, "mp4")?;
        Ok(Self { output, tracks: Vec::new(), end_seconds: 0.0 })
    }

    /// Adds a track for what `encoder` gives, in its time base.
    pub fn add(&mut self, encoder: &codec::Context) -> Result<Track> {
        let time_base = encoder.time_base();
        let mut stream = self.output.add_stream_with(encoder).context("add an MP4 track")?;
        stream.set_time_base(time_base);
        self.tracks.push(time_base);
        Ok(Track(self.tracks.len() - 1))
    }

    /// Ends adding tracks.
    pub fn begin(&mut self) -> Result<()> {
        let mut options = Dictionary::new();
        options.set("movflags", "faststart");
        self.output.write_header_with(options).map(drop).context("begin the MP4 file")
    }

    /// Adds whatever an encoder has ready to its track, each packet of this length if one is given.
    pub fn write_from(&mut self, encoder: &mut Encoder, track: Track, length: Option<i64>) -> Result<()> {
        let mut packet = Packet::empty();
        loop {
            match encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(error) if is_own_fault(error) => return Err(error).context("encode"),
                // It wants more, or is at its end.
                Err(_) => return Ok(()),
            }
            if let Some(length) = length {
                packet.set_duration(length);
            }
            self.write(std::mem::replace(&mut packet, Packet::empty()), track)?;
        }
    }

    fn write(&mut self, mut packet: Packet, track: Track) -> Result<()> {
        let from = self.tracks[track.0];
        let end = packet.pts().unwrap_or(0).saturating_add(packet.duration());
        self.end_seconds = self.end_seconds.max(end as f64 * f64::from(from));
        let to = self.output.stream(track.0).context("find the MP4 track")?.time_base();
        packet.rescale_ts(from, to);
        packet.set_stream(track.0);
        packet.set_position(-1);
        packet.write_interleaved(&mut self.output).context("write the MP4 file")
    }

    /// Writes the index and moves it to the front. Returns where the last packet ends, in seconds.
    pub fn finish(mut self) -> Result<f64> {
        self.output.write_trailer().context("finish the MP4 file")?;
        Ok(self.end_seconds)
    }
}
