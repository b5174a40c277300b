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
    let mut walk = Walk { pictures: Keyframes::open(source)?, from: None };
    let tile = keyframes.displayed().fit(LARGEST_TILE).even();
    let mut filter = PictureFilter::new(keyframes.orientation(), tile, Use::Still);
    let mut sheet = blank(Size { width: tile.width * COLUMNS, height: tile.height * ROWS });
    let count = COLUMNS * ROWS;
    let mut filled = 0;
    let mut last_keyframe = None;
    for index in 0..count {
        let moment = duration_seconds * (f64::from(index) + 0.5) / f64::from(count);
        let Some(picture) = picture_at(&mut keyframes, &mut walk, moment, &mut last_keyframe)? else {
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

/// Which keyframe a packet is.
type Identity = (Option<i64>, isize);

/// Pictures between keyframes that are far apart, each decoded once: a demuxer and a decoder that stay where they are while
/// others seek.
struct Walk {
    pictures: Keyframes,
    /// The keyframe it came from.
    from: Option<Identity>,
}

impl Walk {
    fn to(&mut self, keyframe: Identity, moment: f64) -> Result<Option<frame::Video>> {
        if self.from == Some(keyframe)
            && self.pictures.is_ahead(moment)
            && let Some(picture) = self.pictures.decode_on(moment)?
        {
            return Ok(Some(picture));
        }
        self.from = Some(keyframe);
        match self.pictures.keyframe_at(moment)? {
            Some(packet) => self.pictures.decode_until(packet, moment),
            None => Ok(None),
        }
    }
}

/// The keyframe before a moment; or, where keyframes are so far apart that this is the one seen
/// last, the picture at the moment itself.
fn picture_at(
    keyframes: &mut Keyframes,
    walk: &mut Walk,
    moment: f64,
    last_keyframe: &mut Option<Identity>,
) -> Result<Option<frame::Video>> {
    let Some(packet) = keyframes.keyframe_at(moment)? else {
        return Ok(None);
    };
    let identity = (packet.pts(), packet.position());
    let repeated = *last_keyframe == Some(identity);
    *last_keyframe = Some(identity);
    if !repeated && let Some(picture) = keyframes.decode_alone(&packet)? {
        return Ok(Some(picture));
    }
    walk.to(identity, moment)
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
