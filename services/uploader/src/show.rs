//! What a person, or a program, sees while files are uploaded.

use std::{io::IsTerminal, path::Path, time::Duration};

use caselock_client::Progress;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::text::say;

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The upload is open.
    Opened { file: &'a Path, recording_id: &'a str, held: u64 },
    /// Bytes were acknowledged.
    Held { file: &'a Path, bytes: u64 },
    /// Everything is held; the receipt is to come.
    Sealed { file: &'a Path },
    /// The gateway asks to wait.
    Waiting { file: &'a Path, reason: &'a str, seconds: f64 },
    /// Something failed and is tried again.
    Retrying { file: &'a Path, error: &'a str, seconds: f64 },
    /// The footage is sent again.
    SendAgain { file: &'a Path, reason: &'a str },
    /// Stored: its receipt verified.
    Stored {
        file: &'a Path,
        recording_id: &'a str,
        kind: &'a str,
        size: u64,
        blake3: &'a str,
        locked_until: &'a str,
        receipt: &'a Path,
        was_there: bool,
    },
    /// It would be uploaded.
    WouldUpload { file: &'a Path, kind: &'a str, size: u64 },
    /// Not stored, and why.
    Failed { file: &'a Path, error: &'a str, retryable: bool },
    /// Deleted from the device.
    Deleted { file: &'a Path },
    /// Stored, but not deleted from the device, and why.
    Kept { file: &'a Path, error: &'a str },
    /// All files are done with.
    Done { stored: usize, already: usize, refused: usize, retryable: usize, bytes: u64 },
}

/// Shows how the uploads go: bars on a terminal, plain lines otherwise, or JSON.
pub struct Show {
    json: bool,
    bars: Option<MultiProgress>,
    total: ProgressBar,
}

impl Show {
    pub fn new(json: bool, files: u64, bytes: u64) -> Self {
        let bars = (!json && std::io::stderr().is_terminal()).then(MultiProgress::new);
        let total = match &bars {
            Some(bars) => bars.add(ProgressBar::new(bytes)),
            None => ProgressBar::hidden(),
        };
        total.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}"));
        total.set_message(say("files", &[("count", &files.to_string())]));
        Self { json, bars, total }
    }

    /// A view of one file.
    pub fn file<'a>(&'a self, path: &'a Path, size: u64) -> FileView<'a> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.insert_before(&self.total, ProgressBar::new(size));
            bar.set_style(style("  {msg:30!} [{bar:20}] {bytes}/{total_bytes}"));
            bar.set_message(name(path));
            bar
        });
        FileView { show: self, path, bar }
    }

    /// A line for people, above the bars.
    pub fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None if !self.json => println!("{line}"),
            None => {}
        }
    }

    /// An event for programs.
    pub fn event(&self, event: &Event<'_>) {
        if self.json
            && let Ok(line) = serde_json::to_string(event)
        {
            println!("{line}");
        }
    }

    /// Bytes that are done with: held now, or before.
    pub fn advance(&self, bytes: u64) {
        self.total.inc(bytes);
    }

    pub fn finish(&self) {
        self.total.finish_and_clear();
    }
}

/// One file's progress.
pub struct FileView<'a> {
    show: &'a Show,
    path: &'a Path,
    bar: Option<ProgressBar>,
}

impl FileView<'_> {
    /// Takes the client's progress.
    pub fn progress(&self, progress: Progress) {
        let file = self.path;
        let seconds = |delay: Duration| delay.as_secs_f64();
        match progress {
            Progress::Opened { recording, held } => {
                self.advance(held);
                self.show.event(&Event::Opened { file, recording_id: &recording, held });
                if held > 0 && self.bar.is_none() {
                    let size = HumanBytes(held).to_string();
                    self.show.line(&say("resumed", &[("file", &name(file)), ("size", &size)]));
                }
            }
            Progress::Held(bytes) => {
                self.advance(bytes);
                self.show.event(&Event::Held { file, bytes });
            }
            Progress::Sealed => {
                self.message(&say("sealed", &[("file", &name(file))]));
                self.show.event(&Event::Sealed { file });
            }
            Progress::Waiting { reason, delay } => {
                self.message(&say("waiting", &[("file", &name(file)), ("reason", &reason)]));
                self.show.event(&Event::Waiting { file, reason: &reason, seconds: seconds(delay) });
            }
            Progress::Retrying { error, delay } => {
                let after = format!("{:.1}", seconds(delay));
                self.show.line(&say("again", &[("seconds", &after), ("file", &name(file)), ("error", &error)]));
                self.show.event(&Event::Retrying { file, error: &error, seconds: seconds(delay) });
            }
            Progress::SendAgain(reason) => {
                self.show.line(&say("sending-again", &[("file", &name(file)), ("reason", &reason)]));
                self.show.event(&Event::SendAgain { file, reason: &reason });
            }
        }
    }

    fn advance(&self, bytes: u64) {
        self.show.advance(bytes);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn message(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }
}

impl Drop for FileView<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A file's name for people.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
