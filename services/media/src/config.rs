use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The media service's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct MediaConfig {
    /// The worker's program; the one beside this program where it is empty.
    pub worker: PathBuf,
    /// Where originals are put while they are worked on: as large as the largest original, and its derivatives, for each
    /// job at once. The system's own place for temporary files where it is empty.
    pub scratch: PathBuf,
    /// Jobs at once.
    pub jobs: u32,
    /// Bytes of memory a worker may have.
    pub worker_memory: u64,
    /// Seconds of CPU a worker may have, beside what its input's length grants.
    pub worker_cpu_seconds: u64,
    /// Seconds a worker may take, beside what its input's length grants.
    pub worker_wall_seconds: u64,
    /// Seconds of CPU, and twice as many by the clock, granted for each MiB of input.
    pub worker_seconds_per_mib: u64,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            worker: PathBuf::new(),
            scratch: PathBuf::new(),
            jobs: 1,
            worker_memory: 2 << 30,
            worker_cpu_seconds: 600,
            worker_wall_seconds: 900,
            worker_seconds_per_mib: 5,
        }
    }
}

impl MediaConfig {
    /// The worker's program.
    pub fn worker(&self) -> std::io::Result<PathBuf> {
        if !self.worker.as_os_str().is_empty() {
            return Ok(self.worker.clone());
        }
        Ok(std::env::current_exe()?.with_file_name("caselock-media-worker"))
    }

    /// The folder for scratch files.
    pub fn scratch(&self) -> PathBuf {
        if self.scratch.as_os_str().is_empty() { std::env::temp_dir() } else { self.scratch.clone() }
    }
}
