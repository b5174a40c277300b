//! The worker's process: started for one file, with its descriptors and nothing else, and ended when its time is up.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

/// The most a worker may say.
const REPORT: u64 = 4 << 20;
/// Of what it says to people, only the beginning is kept.
const NOISE: u64 = 64 << 10;
/// Characters of a failure's detail that are kept: it goes into the log.
const DETAIL: usize = 1000;
const FIRST_OUTPUT: i32 = 3;
/// How much longer than we wait a worker may live by its own clock: it ends even where nobody is left who waits.
const ALONE: Duration = Duration::from_secs(10);
/// The reason where something killed a worker: the system for want of memory, or a person. That may be the file's doing or not.
pub const KILLED: &str = "WORKER_KILLED";

/// What a worker may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory: u64,
    pub cpu_seconds: u64,
    pub wall: Duration,
}

/// What a worker found.
#[derive(Debug, Deserialize)]
pub struct Report {
    #[serde(default)]
    pub probe: serde_json::Value,
    #[serde(default)]
    pub outputs: std::collections::BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a worker made nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable reason.
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

#[derive(Deserialize)]
struct FailureReport {
    error: FailureDetail,
}

#[derive(Deserialize)]
struct FailureDetail {
    reason: Said,
    detail: String,
}

/// The reasons a worker may give. One that a hostile file has taken over can't make up others.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Said {
    NotMedia,
    Unreadable,
    Unsupported,
    Internal,
}

impl Said {
    fn as_str(&self) -> &'static str {
        match self {
            Said::NotMedia => "NOT_MEDIA",
            Said::Unreadable => "UNREADABLE",
            Said::Unsupported => "UNSUPPORTED",
            Said::Internal => "INTERNAL",
        }
    }
}

/// Runs the worker on an input. The outer error is this machine's, the inner one the file's.
pub async fn run(
    program: &Path,
    kind: &str,
    input: File,
    outputs: Vec<(&'static str, File)>,
    limits: Limits,
) -> io::Result<Result<Report, Failure>> {
    let mut command = std::process::Command::new(program);
    command.env_clear().current_dir("/").args(["--kind", kind]);
    command.args(["--max-memory", &limits.memory.to_string()]);
    command.args(["--max-cpu-seconds", &limits.cpu_seconds.to_string()]);
    command.args(["--max-wall-seconds", &(limits.wall + ALONE).as_secs().to_string()]);
    let mut mappings = Vec::new();
    for ((name, file), child_fd) in outputs.into_iter().zip(FIRST_OUTPUT..) {
        command.args(["--out", &format!("{name}={child_fd}")]);
        mappings.push(FdMapping { parent_fd: OwnedFd::from(file), child_fd });
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    command.stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what a terminal sends to ours does not reach it.
    let mut child = Command::from(command).process_group(0).kill_on_drop(true).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(limits.wall, async {
        let (report, noise) = tokio::join!(read_up_to(stdout, REPORT), read_up_to(stderr, NOISE));
        Ok::<_, io::Error>((report?, noise?, child.wait().await?))
    });
    let Ok(ended) = ended.await else {
        child.kill().await?;
        let detail = format!("it was not done after {} s", limits.wall.as_secs());
        return Ok(Err(Failure { reason: "WORKER_TIMEOUT", detail }));
    };
    let (report, noise, status) = ended?;
    if !noise.is_empty() {
        tracing::debug!(said = %String::from_utf8_lossy(&noise), "the worker");
    }
    if let Some(libc_signal::SIGTERM | libc_signal::SIGINT | libc_signal::SIGHUP) = status.signal() {
        // Somebody ended it, not the file: the job comes again.
        return Err(io::Error::other(format!("the worker was ended from outside: {status}")));
    }
    Ok(judge(status, &report))
}

fn judge(status: ExitStatus, report: &[u8]) -> Result<Report, Failure> {
    if status.success() {
        return serde_json::from_slice(report)
            .map_err(|e| Failure { reason: "WORKER_CRASHED", detail: format!("its report can't be read: {e}") });
    }
    if let Ok(FailureReport { error }) = serde_json::from_slice(report) {
        let detail = error.detail.chars().take(DETAIL).collect();
        return Err(Failure { reason: error.reason.as_str(), detail });
    }
    let reason = match status.signal() {
        Some(libc_signal::SIGSYS) => "WORKER_ATTACKED",
        Some(libc_signal::SIGXCPU | libc_signal::SIGXFSZ) => "WORKER_LIMIT",
        Some(libc_signal::SIGKILL) => KILLED,
        Some(libc_signal::SIGALRM) => "WORKER_TIMEOUT",
        _ => "WORKER_CRASHED",
    };
    Err(Failure { reason, detail: format!("it ended with {status}") })
}

/// Linux's numbers of the signals that mean something here.
mod libc_signal {
    pub const SIGHUP: i32 = 1;
    pub const SIGINT: i32 = 2;
    pub const SIGTERM: i32 = 15;
    pub const SIGKILL: i32 = 9;
    pub const SIGALRM: i32 = 14;
    pub const SIGXCPU: i32 = 24;
    pub const SIGXFSZ: i32 = 25;
    pub const SIGSYS: i32 = 31;
}

/// Reads to the end, keeping at most `most` bytes: a worker that says too much must not block on a full pipe.
async fn read_up_to(stream: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut stream).take(most).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(kept)
}
