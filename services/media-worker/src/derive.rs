//! The job: every output asked for, each on its own, so that one that fails spares the others.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::Rational;
use ffmpeg_next::util::log;

use crate::args::{Job, Output};
use crate::failure::{Reason, reason_of};
use crate::file::SharedFile;
use crate::report::{Derivative, Probe, Report};
use crate::sandbox::SandboxReport;
use crate::source::{Source, read_packet};
use crate::{contact_sheet, poster, preview, probe, proxy, waveform};

/// Makes what the job asks for. Fails if nothing could be made, or if something failed for a
/// reason that is not the recording's.
pub fn run(job: &Job, sandbox: SandboxReport) -> Result<Report> {
    ffmpeg::init().context("set up FFmpeg")?;
    log::set_level(log::Level::Error);
    log::set_flags(log::Flags::SKIP_REPEATED);
    let source = Source::new(&job.input);
    let mut probe = probe::read(&source.open()?);
    let mut outputs = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut failures = Vec::new();
    for (output, file) in &job.outputs {
        let made = make(*output, &source, &mut probe, file, &mut warnings);
        match made.with_context(|| output.name()) {
            Ok(derivative) => drop(outputs.insert(output.name(), derivative)),
            Err(error) if reason_of(&error) == Reason::Internal => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    if outputs.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    warnings.extend(failures.iter().map(|error| format!("{error:#}")));
    Ok(Report { probe, outputs, sandbox, warnings })
}

fn make(
    output: Output,
    source: &Source,
    probe: &mut Probe,
    file: &SharedFile,
    warnings: &mut Vec<String>,
) -> Result<Derivative> {
    match output {
        Output::Poster => poster::make(source, file),
        Output::ContactSheet => contact_sheet::make(source, duration(source, probe)?, file, warnings),
        Output::Waveform => waveform::make(source, file),
        Output::Preview => preview::make(source, probe, file),
        Output::Proxy { video } => proxy::make(source, probe.duration_seconds, video, file, warnings),
    }
}

/// The stated length; else the last timestamp, found by reading on without decoding.
fn duration(source: &Source, probe: &Probe) -> Result<f64> {
    if let Some(seconds) = probe.duration_seconds {
        return Ok(seconds);
    }
    let mut input = source.open()?;
    let time_bases: Vec<Rational> = input.streams().map(|stream| stream.time_base()).collect();
    let mut last = 0.0_f64;
    while let Some(packet) = read_packet(&mut input)? {
        let time_base = time_bases.get(packet.stream()).copied().map_or(0.0, f64::from);
        last = last.max(packet.pts().unwrap_or(0) as f64 * time_base);
    }
    Ok(last)
}
