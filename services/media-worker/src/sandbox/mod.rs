//! Confinement, applied before the first input byte is parsed. What the kernel can't do is
//! reported, not fatal: the parent decides whether that is enough.

mod filesystem;
mod limits;
mod syscalls;

use serde::Serialize;

pub use limits::Limits;

/// What could be applied.
#[derive(Debug, Serialize)]
pub struct SandboxReport {
    /// No privilege can be gained by executing anything.
    no_new_privs: bool,
    /// No file can be opened, no TCP port bound or connected.
    landlock: filesystem::LandlockReport,
    /// Only the listed system calls are answered.
    seccomp: bool,
    /// Limits in force, read back from the kernel.
    rlimits: limits::LimitsReport,
    /// Why something above is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

/// Applies everything, to the only thread there is; threads started later inherit it.
pub fn apply(limits: &Limits) -> SandboxReport {
    let mut problems = Vec::new();
    note("limits", limits::apply(limits), &mut problems);
    let no_new_privs = rustix::thread::set_no_new_privs(true).map_err(anyhow::Error::from);
    let no_new_privs = note("no_new_privs", no_new_privs, &mut problems).is_some();
    let landlock = filesystem::apply().map_err(anyhow::Error::from);
    let landlock = note("landlock", landlock, &mut problems);
    let rlimits = limits::read_back();
    let seccomp = note("seccomp", syscalls::apply(), &mut problems).is_some();
    SandboxReport {
        no_new_privs,
        landlock: landlock.unwrap_or(filesystem::LandlockReport::NONE),
        seccomp,
        rlimits,
        problems,
    }
}

fn note<T>(what: &str, result: anyhow::Result<T>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| problems.push(format!("{what}: {error:#}"))).ok()
}
