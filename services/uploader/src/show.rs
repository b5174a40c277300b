//! What a person, or a program, sees while files are uploaded.

use std::{
    io::IsTerminal,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use caselock_client::Progress;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    names::{in_text, readable},
    phrases::say_phrase,
    text::{put, say},
};

/// How often programs are told of the whole.
const EVENTS: Duration = Duration::from_secs(1);
/// How often people are, where there are no bars.
const LINES: Duration = Duration::from_secs(10);

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The upload is open.
    Opened {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        recording_id: &'a str,
        held: u64,
    },
    /// Bytes were acknowledged.
    Held {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        bytes: u64,
    },
    /// Everything is held; the receipt is to come.
    Sealed {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
    },
    /// The gateway asks to wait.
    Waiting {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        reason: &'a str,
        seconds: f64,
    },
    /// Something failed and is tried again.
    Retrying {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        error: &'a str,
        seconds: f64,
    },
    /// The footage is sent again.
    SendAgain {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        reason: &'a str,
    },
    /// Stored: its receipt verified.
    Stored {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        recording_id: &'a str,
        kind: &'a str,
        size: u64,
        blake3: &'a str,
        locked_until: &'a str,
        #[serde(serialize_with = "in_text")]
        receipt: &'a Path,
        was_there: bool,
    },
    /// It would be uploaded.
    WouldUpload {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        kind: &'a str,
        size: u64,
    },
    /// Not stored, and why.
    Failed {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        error: &'a str,
        retryable: bool,
    },
    /// Deleted from the device.
    Deleted {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
    },
    /// Stored, but not deleted from the device, and why.
    Kept {
        #[serde(serialize_with = "in_text")]
        file: &'a Path,
        error: &'a str,
    },
    /// How much of everything is done, from time to time and at the end: files that are stored, bytes that are held.
    Progress { stored: u64, files: u64, held: u64, bytes: u64 },
    /// All files are done with.
    Done { stored: usize, already: usize, refused: usize, retryable: usize, bytes: u64 },
}

/// How much of everything is done. Bytes count once, when they are held, however often they are sent.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    files: u64,
    stored: u64,
    bytes: u64,
    held: u64,
}

/// Shows how the uploads go: bars on a terminal, plain lines otherwise, or JSON.
pub struct Show {
    json: bool,
    bars: Option<MultiProgress>,
    total: ProgressBar,
    totals: Mutex<Totals>,
    told: Mutex<Instant>,
}

impl Show {
    pub fn new(json: bool) -> Self {
        let bars = (!json && std::io::stderr().is_terminal()).then(MultiProgress::new);
        let total = match &bars {
            Some(bars) => bars.add(ProgressBar::new(0)),
            None => ProgressBar::hidden(),
        };
        let left = say("left", &[]);
        total.set_style(style(&format!(
            "{{msg}} [{{bar:30}}] {{bytes}}/{{total_bytes}} {{bytes_per_sec}} {left} {{eta}}"
        )));
        Self { json, bars, total, totals: Mutex::default(), told: Mutex::new(Instant::now()) }
    }

    /// So many more files are to be uploaded, of so many bytes together.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.change(|totals| {
            totals.files += files;
            totals.bytes += bytes;
        });
    }

    /// One more file is stored.
    pub fn stored(&self) {
        self.change(|totals| totals.stored += 1);
    }

    /// A file of this size that was stored is to be looked at once more.
    pub fn not_done(&self, size: u64) {
        self.change(|totals| {
            totals.stored = totals.stored.saturating_sub(1);
            totals.held = totals.held.saturating_sub(size);
        });
    }

    /// So many more bytes are held.
    pub fn held(&self, bytes: u64) {
        self.change(|totals| totals.held += bytes);
    }

    fn change(&self, change: impl FnOnce(&mut Totals)) {
        let now = {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut totals);
            *totals
        };
        self.total.set_length(now.bytes);
        self.total.set_position(now.held);
        self.total.set_message(files(&now));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= if self.json { EVENTS } else { LINES } {
            *told = Instant::now();
            self.tell(&now);
        }
    }

    fn tell(&self, now: &Totals) {
        let Totals { files: of, stored, bytes, held } = *now;
        self.event(&Event::Progress { stored, files: of, held, bytes });
        if self.bars.is_none() {
            let [held, bytes] = [held, bytes].map(|n| HumanBytes(n).to_string());
            self.line(&say("progress", &[("files", &files(now)), ("held", &held), ("bytes", &bytes)]));
        }
    }

    /// A view of one file.
    pub fn file<'a>(&'a self, path: &'a Path, size: u64) -> FileView<'a> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.insert_before(&self.total, ProgressBar::new(size));
            bar.set_style(style("  {msg:30!} [{bar:20}] {bytes}/{total_bytes}"));
            bar.set_message(name(path));
            bar
        });
        FileView {
            show: self,
            path,
            bar,
            size,
            held: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            is_complete: AtomicBool::new(false),
        }
    }

    /// A line for people, above the bars.
    pub fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            // An upload goes on whether or not somebody reads of it.
            None if !self.json => drop(put(line)),
            None => {}
        }
    }

    /// An event for programs.
    pub fn event(&self, event: &Event<'_>) {
        if self.json
            && let Ok(line) = serde_json::to_string(event)
        {
            drop(put(line));
        }
    }

    pub fn finish(&self) {
        self.total.finish_and_clear();
        let now = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if self.json {
            self.tell(&now);
        }
    }
}

/// One file's progress.
pub struct FileView<'a> {
    show: &'a Show,
    path: &'a Path,
    bar: Option<ProgressBar>,
    size: u64,
    /// Held now; goes back where it must be sent again.
    held: AtomicU64,
    /// Counted in the total: the most that was held at once.
    counted: AtomicU64,
    is_complete: AtomicBool,
}

impl FileView<'_> {
    /// Takes the client's progress.
    pub fn progress(&self, progress: Progress) {
        let file = self.path;
        let seconds = |delay: Duration| delay.as_secs_f64();
        match progress {
            Progress::Opened { recording, held } => {
                self.set_held(held);
                self.show.event(&Event::Opened { file, recording_id: &recording, held });
                if held > 0 && self.bar.is_none() {
                    let size = HumanBytes(held).to_string();
                    self.show.line(&say("resumed", &[("file", &name(file)), ("size", &size)]));
                }
            }
            Progress::Held(bytes) => {
                self.set_held(self.held.load(Ordering::Relaxed) + bytes);
                self.show.event(&Event::Held { file, bytes });
            }
            Progress::Sealed => {
                self.message(&say("sealed", &[("file", &name(file))]));
                self.show.event(&Event::Sealed { file });
            }
            Progress::Waiting { reason, delay } => {
                self.message(&say("waiting", &[("file", &name(file)), ("reason", &say_phrase(&reason))]));
                self.show.event(&Event::Waiting { file, reason: &reason, seconds: seconds(delay) });
            }
            Progress::Retrying { error, delay } => {
                let after = format!("{:.1}", seconds(delay));
                self.show
                    .line(&say("again", &[("seconds", &after), ("file", &name(file)), ("error", &say_phrase(&error))]));
                self.show.event(&Event::Retrying { file, error: &error, seconds: seconds(delay) });
            }
            Progress::SendAgain(reason) => {
                self.show.line(&say("sending-again", &[("file", &name(file)), ("reason", &say_phrase(&reason))]));
                self.show.event(&Event::SendAgain { file, reason: &reason });
            }
        }
    }

    /// It is stored.
    pub fn complete(&self) {
        self.set_held(self.size);
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// What is sent again does not count again: the file's bar may go back, the total never does.
    fn set_held(&self, held: u64) {
        self.held.store(held, Ordering::Relaxed);
        let before = self.counted.fetch_max(held, Ordering::Relaxed);
        self.show.held(held.saturating_sub(before));
        if let Some(bar) = &self.bar {
            bar.set_position(held);
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
        if !self.is_complete.load(Ordering::Relaxed) {
            // Another attempt counts anew what is held by then.
            let counted = self.counted.load(Ordering::Relaxed);
            self.show.change(|totals| totals.held = totals.held.saturating_sub(counted));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A file's name for people.
pub fn name(path: &Path) -> String {
    readable(path.file_name().unwrap_or(path.as_os_str()))
}

fn files(totals: &Totals) -> String {
    say("files", &[("stored", &totals.stored.to_string()), ("count", &totals.files.to_string())])
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
