//! The machine-made argument list.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FileType, fstat};

use crate::file::SharedFile;
use crate::sandbox::Limits;

/// What the parent asks for.
#[derive(Debug)]
pub enum Command {
    /// Apply the sandbox, say what could be applied, and end.
    CheckSandbox(Limits),
    /// Read fd 0 and write derivatives.
    Derive(Job, Limits),
}

/// One input and the derivatives wanted of it.
#[derive(Debug)]
pub struct Job {
    /// Standard input: the original.
    pub input: SharedFile,
    /// Where each derivative goes.
    pub outputs: BTreeMap<Output, SharedFile>,
}

/// What sort of recording the parent holds this to be; it decides which outputs make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Video,
    Audio,
    Photo,
}

/// A derivative this worker can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// JPEG of the first good keyframe.
    Poster,
    /// JPEG of sixteen moments over the whole length.
    ContactSheet,
    /// JPEG of the sound's envelope over the whole length.
    Waveform,
    /// JPEG of a still.
    Preview,
    /// MP4 that a browser plays: H.264 and AAC, or AAC alone.
    Proxy {
        /// Whether pictures are wanted; without, only sound is carried.
        video: bool,
    },
}

impl Output {
    /// The output's name in arguments and report.
    pub fn name(self) -> &'static str {
        match self {
            Output::Poster => "poster",
            Output::ContactSheet => "contact-sheet",
            Output::Waveform => "waveform",
            Output::Preview => "preview",
            Output::Proxy { .. } => "proxy",
        }
    }

    fn parse(kind: Kind, name: &str) -> Result<Self> {
        match (kind, name) {
            (Kind::Video, "poster") => Ok(Output::Poster),
            (Kind::Video, "contact-sheet") => Ok(Output::ContactSheet),
            (Kind::Video, "proxy") => Ok(Output::Proxy { video: true }),
            (Kind::Audio, "waveform") => Ok(Output::Waveform),
            (Kind::Audio, "proxy") => Ok(Output::Proxy { video: false }),
            (Kind::Photo, "preview") => Ok(Output::Preview),
            _ => bail!("no output {name:?} for {kind:?}"),
        }
    }
}

/// Reads the arguments and takes over the descriptors they name.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command> {
    let mut arguments = arguments
        .map(|argument| argument.into_string().map_err(|bad| anyhow::anyhow!("argument {bad:?} is not UTF-8")));
    let mut check = false;
    let mut kind = None;
    let mut outputs = Vec::new();
    let mut limits = Limits::default();
    while let Some(flag) = arguments.next().transpose()? {
        let mut value = || arguments.next().with_context(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--check-sandbox" => check = true,
            "--kind" => kind = Some(parse_kind(&value()?)?),
            "--out" => outputs.push(value()?),
            "--max-memory" => limits.memory_bytes = parse_number(&value()?)?,
            "--max-cpu-seconds" => limits.cpu_seconds = Some(parse_number(&value()?)?),
            "--max-wall-seconds" => limits.wall_seconds = Some(parse_number(&value()?)?),
            _ => bail!("unknown argument {flag:?}"),
        }
    }
    if check {
        return Ok(Command::CheckSandbox(limits));
    }
    let kind = kind.context("--kind is missing")?;
    let job = Job { input: take_stdin()?, outputs: take_outputs(kind, &outputs)? };
    Ok(Command::Derive(job, limits))
}

fn parse_kind(name: &str) -> Result<Kind> {
    match name {
        "video" => Ok(Kind::Video),
        "audio" => Ok(Kind::Audio),
        "photo" => Ok(Kind::Photo),
        _ => bail!("unknown kind {name:?}"),
    }
}

fn parse_number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("{text:?} is not a number"))
}

fn take_stdin() -> Result<SharedFile> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().context("duplicate fd 0")?;
    ensure_regular(descriptor.as_fd()).context("fd 0")?;
    Ok(SharedFile::new(descriptor))
}

fn take_outputs(kind: Kind, arguments: &[String]) -> Result<BTreeMap<Output, SharedFile>> {
    let mut taken: Vec<RawFd> = Vec::new();
    let mut outputs = BTreeMap::new();
    for argument in arguments {
        let (name, number) = argument.split_once('=').context("--out wants NAME=FD")?;
        let output = Output::parse(kind, name)?;
        let number: RawFd = number.parse().with_context(|| format!("{number:?} is no descriptor"))?;
        ensure!(number > 2 && !taken.contains(&number), "descriptor {number} can't be an output");
        taken.push(number);
        let file = take(number).with_context(|| format!("output {argument:?}"))?;
        file.clear().with_context(|| format!("empty output {argument:?}"))?;
        ensure!(outputs.insert(output, file).is_none(), "output {name:?} is given twice");
    }
    Ok(outputs)
}

fn take(number: RawFd) -> Result<SharedFile> {
    // SAFETY: only borrowed to ask the kernel whether it is open, which is harmless if it isn't.
    ensure_regular(unsafe { BorrowedFd::borrow_raw(number) })?;
    // SAFETY: it is open (above), the parent passed it for this use, and the caller takes each
    // number once and none that Rust's standard streams own.
    Ok(SharedFile::new(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn ensure_regular(descriptor: BorrowedFd<'_>) -> Result<()> {
    let status = fstat(descriptor).context("not an open descriptor")?;
    ensure!(FileType::from_raw_mode(status.st_mode) == FileType::RegularFile, "not a regular file");
    Ok(())
}
