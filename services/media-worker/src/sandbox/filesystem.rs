//! Landlock: no access to any file, no TCP, no signals or abstract sockets to the outside.

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use serde::Serialize;

/// The newest ABI whose rights were tried with FFmpeg; older kernels get what they know of it.
const ABI_WANTED: ABI = ABI::V6;

/// How far Landlock confines this process.
#[derive(Debug, PartialEq, Serialize)]
pub struct LandlockReport {
    /// The ABI in use; absent where the kernel has none.
    abi: Option<i32>,
    /// `full`, `partial` or `none`, measured against the wanted ABI.
    enforced: &'static str,
}

impl LandlockReport {
    /// Nothing could be applied.
    pub const NONE: Self = Self { abi: None, enforced: "none" };
}

/// Denies everything Landlock governs; descriptors already open keep working.
pub fn apply() -> Result<LandlockReport, RulesetError> {
    let status = restrict()?;
    Ok(LandlockReport { abi: abi(&status), enforced: enforced(&status) })
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_WANTED))?
        .handle_access(AccessNet::from_all(ABI_WANTED))?
        .scope(Scope::from_all(ABI_WANTED))?
        .create()?
        .restrict_self()
}

fn abi(status: &RestrictionStatus) -> Option<i32> {
    match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

fn enforced(status: &RestrictionStatus) -> &'static str {
    match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_confined_thread_opens_no_file() {
        let opened = std::thread::spawn(|| {
            super::apply().unwrap();
            std::fs::File::open("/etc/hostname").map(drop).map_err(|error| error.kind())
        });
        assert_eq!(opened.join().unwrap(), Err(std::io::ErrorKind::PermissionDenied));
    }
}
