//! Decoders that outlive damaged packets.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::threading;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::media::Type;
use ffmpeg_next::{Frame, Packet, Stream, codec, decoder};

use crate::failure::{Failure, Reason};
use crate::ffi;
use crate::source::is_own_fault;

/// More threads cost memory and gain little on one recording; the parent runs several workers.
const MAX_THREADS: usize = 4;
/// Channel counts that FFmpeg can mix down.
const CHANNELS: RangeInclusive<u32> = 1..=8;
/// So many failures in a row to give a frame end the stream.
const MAX_DAMAGED_FRAMES: u32 = 1000;

static THREADS: LazyLock<usize> = LazyLock::new(|| {
    let available = std::thread::available_parallelism();
    available.map_or(1, usize::from).min(MAX_THREADS)
});

/// How many threads a decoder or encoder may use. Asked once before the sandbox is closed: a
/// container's quota is read from files.
pub fn threads() -> usize {
    *THREADS
}

/// The first stream of a kind that can be decoded; cover pictures are none.
pub fn find_stream(input: &Input, kind: Type) -> Option<Stream<'_>> {
    input.streams().find(|stream| {
        let parameters = stream.parameters();
        let shape = ffi::stream_shape(input, stream);
        parameters.medium() == kind
            && !stream.disposition().contains(Disposition::ATTACHED_PIC)
            && decoder::find(parameters.id()).is_some()
            && (kind != Type::Video || (shape.width > 0 && shape.height > 0))
            && (kind != Type::Audio || (shape.sample_rate > 0 && CHANNELS.contains(&shape.channels)))
    })
}

/// Why [`find_stream`] found none.
pub fn no_stream(input: &Input, kind: Type) -> anyhow::Error {
    let name = format!("{kind:?}").to_lowercase();
    let unread = input.streams().find(|stream| stream.parameters().medium() == kind);
    let Some(stream) = unread else {
        return Failure::new(Reason::Unsupported, format!("no {name} track")).into();
    };
    let codec = stream.parameters().id();
    match decoder::find(codec) {
        Some(_) => Failure::new(Reason::Unreadable, format!("the {name} track has no usable data")),
        None => Failure::new(Reason::Unsupported, format!("no decoder for {}", codec.name())),
    }
    .into()
}

/// A decoder at work on one stream.
pub struct Decoding {
    decoder: decoder::Opened,
    damaged: u64,
}

impl Decoding {
    /// Opens the stream's decoder. Several threads make it faster, but delay its frames.
    pub fn open(stream: &Stream<'_>, threads: usize) -> Result<Self> {
        let parameters = stream.parameters();
        let codec = decoder::find(parameters.id()).ok_or(ffmpeg::Error::DecoderNotFound)?;
        let mut context = codec::Context::from_parameters(parameters)?;
        if threads > 1 {
            let kind = threading::Type::Frame;
            context.set_threading(threading::Config { kind, count: threads, ..Default::default() });
        }
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(stream.time_base());
        let name = codec.name().to_owned();
        let decoder = decoder.open_as(codec).with_context(|| format!("open decoder {name}"))?;
        Ok(Self { decoder, damaged: 0 })
    }

    /// Gives the decoder a packet, or the end of the stream. Take all frames after each.
    pub fn feed(&mut self, packet: Option<&Packet>) -> Result<()> {
        let fed = match packet {
            Some(packet) => self.decoder.send_packet(packet),
            None => self.decoder.send_eof(),
        };
        self.tolerate(fed).map(drop)
    }

    /// Takes the next frame; `false` if the decoder wants more packets, or is at its end.
    pub fn take(&mut self, frame: &mut Frame) -> Result<bool> {
        for _ in 0..MAX_DAMAGED_FRAMES {
            match self.decoder.receive_frame(frame) {
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: libc::EAGAIN }) => {
                    return Ok(false);
                }
                taken => {
                    if self.tolerate(taken)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Forgets everything fed, after a seek or the end of the stream.
    pub fn restart(&mut self) {
        self.decoder.flush();
    }

    /// How many packets or frames could not be decoded so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn tolerate(&mut self, result: Result<(), ffmpeg::Error>) -> Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if is_own_fault(error) => Err(error).context("decode"),
            Err(_) => {
                self.damaged += 1;
                Ok(false)
            }
        }
    }
}
