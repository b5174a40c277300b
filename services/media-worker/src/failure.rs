//! Why a file could not be derived from, in the parent's vocabulary.

use std::fmt;

use ffmpeg_next as ffmpeg;
use serde::Serialize;

/// The stable reason the parent records with a failed derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The content is of no container this worker reads.
    NotMedia,
    /// The container was recognised, but nothing in it can be decoded.
    Unreadable,
    /// It may be sound, but has no track or codec that fits what was asked, or wants more memory
    /// than this worker may have.
    Unsupported,
    /// The worker, its limits or its outputs failed; the file may be fine.
    Internal,
}

/// A failure whose reason is known where it happens.
#[derive(Debug)]
pub struct Failure {
    reason: Reason,
    detail: String,
}

impl Failure {
    /// A failure for `reason`, explained by `detail`.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

/// The reason behind `error`: as stated by a [`Failure`], else judged by FFmpeg's own error.
pub fn reason_of(error: &anyhow::Error) -> Reason {
    let stated = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(failure) = stated {
        return failure.reason;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<ffmpeg::Error>()) {
        Some(ffmpeg::Error::InvalidData | ffmpeg::Error::Eof) => Reason::Unreadable,
        Some(ffmpeg::Error::DecoderNotFound | ffmpeg::Error::PatchWelcome) => Reason::Unsupported,
        // The memory limit is the same for every attempt, so trying again is of no use.
        Some(ffmpeg::Error::Other { errno: libc::ENOMEM }) => Reason::Unsupported,
        _ => Reason::Internal,
    }
}
