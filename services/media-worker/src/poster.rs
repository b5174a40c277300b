//! The poster: the first keyframe that shows something.

use anyhow::Result;
use ffmpeg_next::frame;

use crate::failure::{Failure, Reason};
use crate::file::SharedFile;
use crate::filter::{PictureFilter, Use};
use crate::geometry::Size;
use crate::jpeg;
use crate::keyframes::Keyframes;
use crate::report::Derivative;
use crate::source::Source;

const LARGEST: Size = Size { width: 4096, height: 720 };
/// So many keyframes are looked at for one that shows something.
const MAX_TRIES: usize = 12;
/// Pictures whose brightness strays less than this from its mean, of 255, show nothing.
const PLAIN: u64 = 4;

/// Writes the poster.
pub fn make(source: &Source, output: &SharedFile) -> Result<Derivative> {
    let mut keyframes = Keyframes::open(source)?;
    let size = keyframes.displayed().fit(LARGEST);
    let mut filter = PictureFilter::new(keyframes.orientation(), size, Use::Still);
    let mut poster = None;
    for _ in 0..MAX_TRIES {
        let Some(packet) = keyframes.next_keyframe()? else {
            break;
        };
        let Some(picture) = keyframes.decode_alone(&packet)? else {
            continue;
        };
        let picture = filter.apply(picture)?;
        let plain = is_plain(&picture);
        if !plain || poster.is_none() {
            poster = Some(picture);
        }
        if !plain {
            break;
        }
    }
    if poster.is_none() {
        let picture = Keyframes::open(source)?.next_picture()?;
        poster = picture.map(|picture| filter.apply(picture)).transpose()?;
    }
    let nothing = || Failure::new(Reason::Unreadable, "no picture can be decoded");
    jpeg::write(&mut poster.ok_or_else(nothing)?, output)
}

fn is_plain(picture: &frame::Video) -> bool {
    let width = picture.width() as usize;
    let rows = || picture.data(0).chunks(picture.stride(0)).take(picture.height() as usize);
    let luma = || rows().filter_map(|row| row.get(..width)).flatten().map(|value| u64::from(*value));
    let count = (luma().count() as u64).max(1);
    let mean = luma().sum::<u64>() / count;
    luma().map(|value| value.abs_diff(mean)).sum::<u64>() / count < PLAIN
}
