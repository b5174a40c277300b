//! The original: opened from its descriptor only, as one of a fixed list of containers.

use std::io::Read;

use anyhow::{Context, Result};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::{Dictionary, Packet};

use crate::failure::{Failure, Reason};
use crate::ffi;
use crate::file::{READ_FAILED, SharedFile};

/// Containers that hold their media themselves. None of them is a playlist, and none may open
/// anything else. Names as libavformat has them.
const CONTAINERS: &[&str] = &[
    "mov",
    "matroska",
    "mpegts",
    "mpeg",
    "avi",
    "asf",
    "flv",
    "dhav",
    "h264",
    "hevc",
    "mjpeg",
    "wav",
    "w64",
    "mp3",
    "aac",
    "flac",
    "ogg",
    "amr",
    "gif",
    "jpeg_pipe",
    "png_pipe",
    "bmp_pipe",
    "webp_pipe",
    "tiff_pipe",
];
/// How much of the beginning libavformat looks at, at most, to recognise a container.
const HEAD_BYTES: u64 = 1 << 20;
/// At or below this, libavformat itself says it is only guessing.
const GUESS: i32 = 25;
/// So many failures in a row to read a packet end the recording.
const MAX_DAMAGED_READS: u32 = 1000;

/// The original on fd 0.
#[derive(Debug)]
pub struct Source {
    file: SharedFile,
}

impl Source {
    /// The original in `file`.
    pub fn new(file: &SharedFile) -> Self {
        Self { file: file.clone() }
    }

    /// A new demuxer at the beginning; each derivative takes its own.
    pub fn open(&self) -> Result<Input> {
        let mut options = Dictionary::new();
        options.set("format_whitelist", &CONTAINERS.join(","));
        options.set("protocol_whitelist", "none");
        options.set("fflags", "+genpts");
        let reader = StreamIo::from_read_seek(self.file.reopened()).context("set up reading")?;
        match ffmpeg::format::input_from_stream(reader, None, Some(options)) {
            Ok(input) if input.probe_score() <= GUESS && input.nb_streams() == 0 => {
                Err(Failure::new(Reason::NotMedia, "no known container").into())
            }
            Ok(input) => Ok(input),
            Err(error) => Err(self.refusal(error)),
        }
    }

    /// Tells a damaged recording from something that is none, which libavformat's error doesn't.
    fn refusal(&self, error: ffmpeg::Error) -> anyhow::Error {
        if is_own_fault(error) {
            return anyhow::Error::from(error).context("open the original");
        }
        let mut head = Vec::new();
        if let Err(error) = self.file.reopened().take(HEAD_BYTES).read_to_end(&mut head) {
            return anyhow::Error::from(error).context("read the original");
        }
        match ffi::recognise(&head) {
            Some((name, score)) if score > GUESS && is_allowed(&name) => {
                Failure::new(Reason::Unreadable, format!("damaged {name}: {error}")).into()
            }
            Some((name, _)) if !is_allowed(&name) => {
                Failure::new(Reason::NotMedia, format!("{name} is not accepted")).into()
            }
            _ => Failure::new(Reason::NotMedia, "no known container").into(),
        }
    }
}

/// Reads the next packet that can be read, if there is one. Always into a new packet: reading
/// into a used one leaks what it held.
pub fn read_packet(input: &mut Input) -> Result<Option<Packet>> {
    for _ in 0..MAX_DAMAGED_READS {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => return Ok(Some(packet)),
            Err(ffmpeg::Error::Eof) => return Ok(None),
            Err(error) if is_own_fault(error) => return Err(error).context("read the original"),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Whether the container is a plain stream, without an index, whose clock may leap.
pub fn is_plain_stream(input: &Input) -> bool {
    matches!(input.format().name(), "mpegts" | "mpeg")
}

/// Whether `error` speaks of this machine rather than of the recording.
pub fn is_own_fault(error: ffmpeg::Error) -> bool {
    matches!(error, ffmpeg::Error::Other { errno: libc::ENOMEM | READ_FAILED })
}

/// A demuxer's name is a list of aliases; one that matches is enough, as in libavformat.
fn is_allowed(name: &str) -> bool {
    name.split(',').any(|alias| CONTAINERS.contains(&alias))
}
