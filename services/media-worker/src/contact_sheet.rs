//! The contact sheet: moments over the whole length, on one picture.

use anyhow::Result;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;

use crate::failure::{Failure, Reason};
use crate::file::SharedFile;
use crate::filter::{PictureFilter, Use};
use crate::geometry::Size;
use crate::jpeg;
use crate::keyframes::Keyframes;
use crate::report::Derivative;
use crate::source::Source;

const COLUMNS: u32 = 4;
const ROWS: u32 = 4;
const LARGEST_TILE: Size = Size { width: 320, height: 1280 };

/// Writes the contact sheet of a recording of this length.
pub fn make(
    source: &Source,
    duration_seconds: f64,
    output: &SharedFile,
    warnings: &mut Vec<String>,
) -> Result<Derivative> {
    let mut keyframes = Keyframes::open(source)?;
    let tile = keyframes.displayed().fit(LARGEST_TILE).even();
    let mut filter = PictureFilter::new(keyframes.orientation(), tile, Use::Still);
    let mut sheet = blank(Size { width: tile.width * COLUMNS, height: tile.height * ROWS });
    let count = COLUMNS * ROWS;
    let mut filled = 0;
    let mut last_keyframe = None;
    for index in 0..count {
        let moment = duration_seconds * (f64::from(index) + 0.5) / f64::from(count);
        let Some(picture) = picture_at(&mut keyframes, moment, &mut last_keyframe)? else {
            continue;
        };
        paste(&filter.apply(picture)?, &mut sheet, index % COLUMNS, index / COLUMNS);
        filled += 1;
    }
    if filled == 0 {
        return Err(Failure::new(Reason::Unreadable, "no picture can be decoded").into());
    }
    if filled < count {
        warnings.push(format!("contact-sheet: {filled} of {count} moments could be decoded"));
    }
    jpeg::write(&mut sheet, output)
}

/// The keyframe before a moment; or, where keyframes are so far apart that this is the one seen
/// last, the picture at the moment itself.
fn picture_at(
    keyframes: &mut Keyframes,
    moment: f64,
    last_keyframe: &mut Option<(Option<i64>, isize)>,
) -> Result<Option<frame::Video>> {
    let Some(packet) = keyframes.keyframe_at(moment)? else {
        return Ok(None);
    };
    let identity = Some((packet.pts(), packet.position()));
    let repeated = *last_keyframe == identity;
    *last_keyframe = identity;
    if !repeated && let Some(picture) = keyframes.decode_alone(&packet)? {
        return Ok(Some(picture));
    }
    keyframes.decode_until(packet, moment)
}

fn blank(size: Size) -> frame::Video {
    let mut sheet = frame::Video::new(Pixel::YUVJ420P, size.width, size.height);
    sheet.data_mut(0).fill(0);
    sheet.data_mut(1).fill(128);
    sheet.data_mut(2).fill(128);
    sheet
}

/// Copies a tile to its place; tiles have even sides, so that half-size planes line up.
fn paste(tile: &frame::Video, sheet: &mut frame::Video, column: u32, row: u32) {
    for plane in 0..tile.planes() {
        let width = tile.plane_width(plane) as usize;
        let height = tile.plane_height(plane) as usize;
        let (from_stride, to_stride) = (tile.stride(plane), sheet.stride(plane));
        let left = column as usize * width;
        let top = row as usize * height;
        let lines = tile.data(plane).chunks(from_stride).take(height);
        let places = sheet.data_mut(plane).chunks_mut(to_stride).skip(top);
        for (line, place) in lines.zip(places) {
            place[left..left + width].copy_from_slice(&line[..width]);
        }
    }
}
