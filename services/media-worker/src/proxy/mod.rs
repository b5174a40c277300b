//! The proxy: an MP4 that every browser plays.

mod mp4;
mod sound;
mod timeline;
mod video;

use anyhow::Result;
use ffmpeg_next::media::Type;

use crate::decode::no_stream;
use crate::failure::{Failure, Reason};
use crate::file::SharedFile;
use crate::report::Derivative;
use crate::source::{Source, read_packet};
use mp4::Mp4;
use sound::SoundTrack;
use timeline::Timeline;
use video::VideoTrack;

/// A proxy shorter than this part of what the container states is worth a warning.
const COMPLETE: f64 = 0.95;

/// Writes the proxy: the first video track if wanted, the first audio track, or whichever of
/// them there is.
pub fn make(
    source: &Source,
    stated_seconds: Option<f64>,
    with_video: bool,
    output: &SharedFile,
    warnings: &mut Vec<String>,
) -> Result<Derivative> {
    let mut input = source.open()?;
    let mut mp4 = Mp4::new(output)?;
    let mut video = if with_video { VideoTrack::open(&input, &mut mp4)? } else { None };
    let mut sound = SoundTrack::open(&input, &mut mp4)?;
    if video.is_none() && sound.is_none() {
        return Err(no_stream(&input, if with_video { Type::Video } else { Type::Audio }));
    }
    mp4.begin()?;
    let mut timeline = Timeline::new(&input);
    while let Some(mut packet) = read_packet(&mut input)? {
        timeline.place(&mut packet);
        if let Some(video) = video.as_mut().filter(|track| track.stream() == packet.stream()) {
            video.add(Some(&packet), &mut mp4)?;
        } else if let Some(sound) = sound.as_mut().filter(|track| track.stream() == packet.stream()) {
            sound.add(Some(&packet), &mut mp4)?;
        }
    }
    let mut damaged = 0;
    if let Some(video) = &mut video {
        video.add(None, &mut mp4)?;
        damaged += video.damaged();
    }
    if let Some(sound) = &mut sound {
        sound.add(None, &mut mp4)?;
        damaged += sound.damaged();
    }
    let duration = mp4.finish()?;
    if duration == 0.0 {
        return Err(Failure::new(Reason::Unreadable, "nothing can be decoded").into());
    }
    if damaged > 0 {
        warnings.push(format!("proxy: {damaged} damaged packets were left out"));
    }
    if let Some(stated) = stated_seconds.filter(|stated| duration < stated * COMPLETE) {
        warnings.push(format!("proxy: ends at {duration:.3} of {stated:.3} stated seconds"));
    }
    let size = video.as_ref().map(VideoTrack::size);
    Ok(Derivative {
        bytes: output.size()?,
        width: size.map(|size| size.width),
        height: size.map(|size| size.height),
        duration_seconds: Some(duration),
    })
}
