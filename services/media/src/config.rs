use std::path::PathBuf;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media service's settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MediaConfig {
    /// The worker's program. Where it is empty: `caselock-media-worker` beside this program.
    pub worker: PathBuf,
    /// Where originals are put while they are worked on: room for the largest original and its derivatives, for each job at once.
    /// Where it is empty: the system's folder for temporary files.
    pub scratch: PathBuf,
    /// Jobs at once. Digests are made in Linux's idle class: where other work of the same container, or of the one process, keeps
    /// every processor busy without a pause, they wait, and so does what reading back finds.
    pub jobs: u32,
    /// Bytes of memory a worker may have.
    pub worker_memory: u64,
    /// Seconds of CPU a worker may use, beside what its input grants.
    pub worker_cpu_seconds: u64,
    /// Seconds a worker may take, beside what its input grants.
    pub worker_wall_seconds: u64,
    /// Granted for each MiB of input: so many seconds of CPU, and twice as many by the clock.
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
    /// Checks the limits: one that no worker can keep to would be taken for the fault of every file, and what is told of that is locked.
    pub fn check(&self) -> anyhow::Result<()> {
        let within = [
            ("jobs", u64::from(self.jobs), 1..=64),
            ("worker_memory", self.worker_memory, 256 << 20..=1 << 40),
            ("worker_cpu_seconds", self.worker_cpu_seconds, 60..=86_400),
            ("worker_wall_seconds", self.worker_wall_seconds, 60..=86_400),
            ("worker_seconds_per_mib", self.worker_seconds_per_mib, 1..=3_600),
        ];
        for (name, value, range) in within {
            let (least, most) = (range.start(), range.end());
            ensure!(range.contains(&value), "media.{name}: expected {least} to {most}, not {value}");
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_no_worker_can_keep_to_are_refused() {
        assert!(MediaConfig::default().check().is_ok());
        for wrong in [
            MediaConfig { worker_memory: 2, ..MediaConfig::default() },
            MediaConfig { worker_wall_seconds: 0, ..MediaConfig::default() },
            MediaConfig { worker_cpu_seconds: u64::MAX, ..MediaConfig::default() },
            MediaConfig { worker_seconds_per_mib: 0, ..MediaConfig::default() },
            MediaConfig { jobs: 0, ..MediaConfig::default() },
        ] {
            let error = wrong.check().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(error.starts_with("media.") && error.contains("expected"), "{error}");
        }
    }
}
