//! Samples, the worker run as its parent runs it, and what `ffprobe` says of the results.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::Value;
use tempfile::TempDir;

pub const WORKER: &str = env!("CARGO_BIN_EXE_caselock-media-worker");
/// Red in the first quarter of the picture, so that turning it shows.
pub const CORNER: &str =
    "drawbox=x=0:y=0:w=iw/2:h=ih/2:color=red:t=fill,drawbox=x=iw/2:y=ih/2:w=iw/2:h=ih/2:color=blue:t=fill";

/// A folder for one test's samples and results.
pub struct Bench {
    folder: TempDir,
}

/// What the worker did.
pub struct Run {
    pub success: bool,
    pub report: Value,
    pub stderr: String,
    folder: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a sample by `ffmpeg`, its arguments split at blanks.
    pub fn sample(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let arguments = arguments
            .split_whitespace()
            .map(|argument| argument.strip_prefix('@').map_or(argument.into(), |name| self.path(name)));
        let made = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A copy of the first part of a file.
    pub fn truncate(&self, whole: &Path, name: &str, part: f64) -> PathBuf {
        let content = std::fs::read(whole).unwrap();
        self.write(name, &content[..(content.len() as f64 * part) as usize])
    }

    /// Runs the worker over `input`, with a new file for each of `outputs`.
    pub fn run(&self, kind: &str, input: &Path, outputs: &[&str]) -> Run {
        self.run_with(kind, input, outputs, &[])
    }

    pub fn run_with(&self, kind: &str, input: &Path, outputs: &[&str], more: &[&str]) -> Run {
        let mut command = Command::new(WORKER);
        command.args(["--kind", kind]).args(more);
        let mut mappings = Vec::new();
        for (child_fd, name) in (10..).zip(outputs) {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            let parent_fd = OwnedFd::from(options.open(self.path(name)).unwrap());
            mappings.push(FdMapping { parent_fd, child_fd });
            command.args(["--out", &format!("{name}={child_fd}")]);
        }
        command.stdin(Stdio::from(File::open(input).unwrap()));
        let Output { status, stdout, stderr } = command.fd_mappings(mappings).unwrap().output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let report =
            serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {status}: {stdout:?}: {stderr}"));
        keep(&self.folder.path().join("."), input, outputs);
        Run { success: status.success(), report, stderr, folder: self.folder.path().into() }
    }
}

/// Copies results to where a person can look at them, if asked to.
fn keep(folder: &Path, input: &Path, outputs: &[&str]) {
    let Some(gallery) = std::env::var_os("MEDIA_WORKER_GALLERY") else {
        return;
    };
    for name in outputs {
        let input = input.file_name().unwrap().to_string_lossy();
        let kept = Path::new(&gallery).join(format!("{input}.{name}"));
        std::fs::copy(folder.join(name), kept).unwrap();
    }
}

impl Run {
    /// The report's value at a JSON pointer.
    pub fn at(&self, pointer: &str) -> &Value {
        self.report.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {}", self.report))
    }

    pub fn expect_success(self) -> Self {
        assert!(self.success, "{} {}", self.report, self.stderr);
        self
    }

    pub fn warnings(&self) -> Vec<String> {
        serde_json::from_value(self.at("/warnings").clone()).unwrap()
    }

    pub fn reason(&self) -> &str {
        assert!(!self.success, "{}", self.report);
        self.at("/error/reason").as_str().unwrap()
    }

    pub fn output(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Width and height of an output as reported, checked against the file itself.
    pub fn size(&self, name: &str) -> (u64, u64) {
        let side = |side: &str| self.at(&format!("/outputs/{name}/{side}")).as_u64().unwrap();
        let reported = (side("width"), side("height"));
        let probed = probe(&self.output(name));
        let stream = stream(&probed, "video").unwrap();
        let found = (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap());
        assert_eq!(reported, found);
        let bytes = std::fs::metadata(self.output(name)).unwrap().len();
        assert_eq!(self.at(&format!("/outputs/{name}/bytes")).as_u64(), Some(bytes));
        found
    }

    /// Checks what every proxy must be, and returns what `ffprobe` says of it.
    pub fn check_proxy(&self, seconds: f64) -> Value {
        let path = self.output("proxy");
        let boxes = boxes(&path);
        let place = |name: &str| boxes.iter().position(|found| found == name);
        assert!(place("moov") < place("mdat"), "{boxes:?}");
        assert!(place("moov").is_some() && place("moof").is_none(), "{boxes:?}");
        let probed = probe(&path);
        let duration = number(&probed["format"]["duration"]);
        assert!((duration - seconds).abs() <= seconds * 0.05, "{duration} of {seconds}");
        let reported = self.at("/outputs/proxy/duration_seconds").as_f64().unwrap();
        assert!((duration - reported).abs() < 0.1, "{duration} but reported {reported}");
        if let Some(video) = stream(&probed, "video") {
            assert_eq!(video["codec_name"], "h264");
            assert_eq!(video["pix_fmt"], "yuv420p");
            assert_eq!(video.get("side_data_list"), None, "still turned");
            self.size("proxy");
            assert!(groups_are_closed(&path), "a browser can't seek in it");
        }
        if let Some(audio) = stream(&probed, "audio") {
            assert_eq!(audio["codec_name"], "aac");
        }
        let played =
            Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&path).args(["-f", "null", "-"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&played.stderr), "", "the proxy plays without a word");
        probed
    }
}

pub fn probe(path: &Path) -> Value {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-show_format", "-show_streams", "-of", "json"])
        .arg(path)
        .output()
        .unwrap();
    serde_json::from_slice(&probed.stdout).unwrap()
}

pub fn stream<'a>(probed: &'a Value, kind: &str) -> Option<&'a Value> {
    probed["streams"].as_array().unwrap().iter().find(|stream| stream["codec_type"] == kind)
}

/// `ffprobe` writes some numbers as text.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// Presentation times of a file's pictures.
pub fn times(path: &Path) -> Vec<f64> {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(probed.stdout).unwrap();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// Whether no picture stored after a keyframe is shown before it.
fn groups_are_closed(path: &Path) -> bool {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v"])
        .args(["-show_entries", "packet=pts,flags", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(probed.stdout).unwrap();
    let mut packets = text.lines().map(|line| line.split_once(',').unwrap());
    let mut keyframe = i64::MIN;
    packets.all(|(time, flags)| {
        let time: i64 = time.parse().unwrap();
        let follows = time > keyframe;
        if flags.starts_with('K') {
            keyframe = time;
        }
        follows
    })
}

/// The picture in `columns` × `rows` averages, each red, green, blue; line by line.
pub fn colours(path: &Path, columns: usize, rows: usize) -> Vec<[u8; 3]> {
    let shown = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-frames:v", "1", "-vf", &format!("format=rgb24,scale={columns}:{rows}:flags=area")])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    shown.stdout.chunks_exact(3).map(|pixel| pixel.try_into().unwrap()).collect()
}

pub fn is_red([red, green, blue]: [u8; 3]) -> bool {
    red > 180 && green < 80 && blue < 80
}

pub fn is_blue([red, green, blue]: [u8; 3]) -> bool {
    blue > 180 && green < 80 && red < 80
}

/// Names of an MP4's top-level boxes, in order.
fn boxes(path: &Path) -> Vec<String> {
    let content = std::fs::read(path).unwrap();
    let mut names = Vec::new();
    let mut at = 0;
    while at + 16 <= content.len() {
        let size = u32::from_be_bytes(content[at..at + 4].try_into().unwrap()) as usize;
        let large = u64::from_be_bytes(content[at + 8..at + 16].try_into().unwrap()) as usize;
        names.push(String::from_utf8_lossy(&content[at + 4..at + 8]).into_owned());
        at += if size == 1 { large } else { size.max(8) };
    }
    names
}
