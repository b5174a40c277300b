//! Stills.

use std::io::Write;

use anyhow::{Context, Result};
use ffmpeg_next::codec::{self, Flags, Id};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Packet, color, encoder, frame};

use crate::file::SharedFile;
use crate::report::Derivative;

/// FFmpeg's quantiser, 1 (best) to 31.
const QUANTISER: i32 = 3;
/// FFmpeg's `FF_QP2LAMBDA`.
const LAMBDA_PER_QUANTISER: i32 = 118;

/// Writes a full-range 4:2:0 picture as JPEG.
pub fn write(picture: &mut frame::Video, output: &SharedFile) -> Result<Derivative> {
    let codec = encoder::find(Id::MJPEG).context("find the JPEG encoder")?;
    let mut context = codec::Context::new_with_codec(codec);
    context.set_flags(Flags::QSCALE);
    context.set_time_base((1, 25));
    let mut encoder = context.encoder().video()?;
    encoder.set_width(picture.width());
    encoder.set_height(picture.height());
    encoder.set_format(Pixel::YUVJ420P);
    encoder.set_color_range(color::Range::JPEG);
    encoder.set_global_quality(QUANTISER * LAMBDA_PER_QUANTISER);
    encoder.set_qmin(QUANTISER);
    encoder.set_qmax(QUANTISER);
    let mut encoder = encoder.open().context("open the JPEG encoder")?;
    picture.set_pts(Some(0));
    encoder.send_frame(picture).context("encode JPEG")?;
    encoder.send_eof().context("encode JPEG")?;
    let mut packet = Packet::empty();
    encoder.receive_packet(&mut packet).context("encode JPEG")?;
    let bytes = packet.data().context("JPEG encoder gave nothing")?;
    output.reopened().write_all(bytes).context("write JPEG")?;
    Ok(Derivative {
        bytes: bytes.len() as u64,
        width: Some(picture.width()),
        height: Some(picture.height()),
        duration_seconds: None,
    })
}
