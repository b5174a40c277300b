//! The preview of a still.

use anyhow::Result;
use ffmpeg_next::frame;

use crate::failure::{Failure, Reason};
use crate::ffi;
use crate::file::SharedFile;
use crate::filter::{PictureFilter, Use};
use crate::geometry::Size;
use crate::jpeg;
use crate::keyframes::Keyframes;
use crate::orientation::Orientation;
use crate::report::{Derivative, Probe};
use crate::source::Source;

const LARGEST: Size = Size { width: 1280, height: 1280 };
/// What of EXIF is worth keeping; FFmpeg names its tags as EXIF does.
const EXIF_TAGS: &[&str] = &["Make", "Model", "Software", "DateTime", "DateTimeOriginal"];

/// Writes the preview, and adds to the probe what only the decoded still tells.
pub fn make(source: &Source, probe: &mut Probe, output: &SharedFile) -> Result<Derivative> {
    let picture = first_picture(source)?;
    let orientation = Orientation::of_frame(&picture);
    for (key, value) in ffi::entries(&picture.metadata()) {
        if EXIF_TAGS.contains(&key.as_str()) {
            probe.tags.insert(key, value.trim().to_owned());
        }
    }
    if let Some(stream) = probe.streams.iter_mut().find(|stream| stream.kind == "video") {
        stream.rotation = Some(orientation.degrees());
    }
    let stored = Size { width: picture.width(), height: picture.height() };
    let size = stored.displayed(picture.aspect_ratio(), orientation).fit(LARGEST);
    let mut filter = PictureFilter::new(orientation, size, Use::Still);
    jpeg::write(&mut filter.apply(picture)?, output)
}

fn first_picture(source: &Source) -> Result<frame::Video> {
    let mut keyframes = Keyframes::open(source)?;
    let nothing = || Failure::new(Reason::Unreadable, "the picture can't be decoded");
    Ok(keyframes.next_picture()?.ok_or_else(nothing)?)
}
