//! The one JSON document this process writes to stdout.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::{Reason, reason_of};
use crate::sandbox::SandboxReport;

/// What was found and made, on success.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the container says about itself.
    pub probe: Probe,
    /// The derivatives written, by output name; one that could not be made is absent.
    pub outputs: BTreeMap<&'static str, Derivative>,
    /// What confined this process while it worked.
    pub sandbox: SandboxReport,
    /// What a person looking at the derivatives should know.
    pub warnings: Vec<String>,
}

/// The container and its streams, as stated by the file; nothing here is verified.
#[derive(Debug, Default, Serialize)]
pub struct Probe {
    /// libavformat's name of the container.
    pub container: String,
    /// Stated or estimated length.
    pub duration_seconds: Option<f64>,
    /// Bits per second over everything.
    pub bit_rate: Option<i64>,
    /// When the device says it began recording.
    pub creation_time: Option<String>,
    /// Other container or EXIF tags, such as the device's make and model.
    pub tags: BTreeMap<String, String>,
    /// Every stream, in the container's order.
    pub streams: Vec<StreamProbe>,
}

/// One stream of the container; fields that don't apply to its kind are left out.
#[derive(Debug, Default, Serialize)]
pub struct StreamProbe {
    /// `video`, `audio`, `subtitle`, `data` or `attachment`.
    pub kind: &'static str,
    /// FFmpeg's name of the codec.
    pub codec: &'static str,
    /// Coded width in pixels, before rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Coded height in pixels, before rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Degrees clockwise a player turns the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<u32>,
    /// Average frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<f64>,
    /// Samples per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// Number of audio channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Stated length of this stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
}

/// One derivative as written.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Derivative {
    /// Size of the file.
    pub bytes: u64,
    /// Width in pixels, if it has pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels, if it has pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Length, if it plays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
}

/// What is reported instead of a [`Report`] when nothing could be derived.
#[derive(Debug, Serialize)]
pub struct FailureReport {
    error: FailureDetail,
}

#[derive(Debug, Serialize)]
struct FailureDetail {
    reason: Reason,
    detail: String,
}

impl From<&anyhow::Error> for FailureReport {
    fn from(error: &anyhow::Error) -> Self {
        Self { error: FailureDetail { reason: reason_of(error), detail: format!("{error:#}") } }
    }
}
