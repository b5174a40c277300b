//! Resource limits. Crossing memory makes an allocation fail, crossing CPU time or file size
//! ends the process by SIGXCPU or SIGXFSZ, which the parent sees.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;
/// Above what a day's proxy at 720p takes, below what a broken file could fill a disk with.
const MAX_FILE_BYTES: u64 = 32 << 30;

/// What the parent grants.
#[derive(Debug)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    /// CPU time over all threads; unlimited if absent, for the parent also keeps a wall clock.
    pub cpu_seconds: Option<u64>,
    /// Seconds by the wall clock, after which SIGALRM ends the process, whether its parent is still there or not; unlimited if
    /// absent.
    pub wall_seconds: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: DEFAULT_MEMORY_BYTES, cpu_seconds: None, wall_seconds: None }
    }
}

/// Limits in force; `null` is unlimited.
#[derive(Debug, PartialEq, Serialize)]
pub struct LimitsReport {
    memory_bytes: Option<u64>,
    cpu_seconds: Option<u64>,
    core_bytes: Option<u64>,
    file_bytes: Option<u64>,
}

/// Lowers the limits. A limit the parent set lower already stays.
pub fn apply(limits: &Limits) -> Result<()> {
    crate::ffi::use_one_heap();
    lower(Resource::Core, 0, 0).context("core")?;
    lower(Resource::Fsize, MAX_FILE_BYTES, MAX_FILE_BYTES).context("file size")?;
    lower(Resource::As, limits.memory_bytes, limits.memory_bytes).context("memory")?;
    if let Some(seconds) = limits.wall_seconds {
        crate::ffi::end_after(seconds.try_into().unwrap_or(u32::MAX));
    }
    match limits.cpu_seconds {
        // Where both limits are the same, the kernel skips SIGXCPU and kills.
        Some(seconds) => lower(Resource::Cpu, seconds, seconds.saturating_add(1)).context("CPU time"),
        None => Ok(()),
    }
}

/// The limits as the kernel has them.
pub fn read_back() -> LimitsReport {
    LimitsReport {
        memory_bytes: getrlimit(Resource::As).current,
        cpu_seconds: getrlimit(Resource::Cpu).current,
        core_bytes: getrlimit(Resource::Core).current,
        file_bytes: getrlimit(Resource::Fsize).current,
    }
}

fn lower(resource: Resource, current: u64, maximum: u64) -> Result<()> {
    let held = getrlimit(resource);
    let least = |held: Option<u64>, wanted| Some(held.map_or(wanted, |held| held.min(wanted)));
    let limit = Rlimit { current: least(held.current, current), maximum: least(held.maximum, maximum) };
    Ok(setrlimit(resource, limit)?)
}
