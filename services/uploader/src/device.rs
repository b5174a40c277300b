//! Which device a file lies on: what is wiped or unplugged must not take the receipts with it.

use std::path::Path;

/// Whether both lie on one file system, and that is on a device that can be unplugged, as far as the system tells. What the
/// system itself lies on is no device of a bureau.
pub fn are_on_one_removable(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    let system = device(Path::new("/"));
    let shared = device(one).filter(|number| device(other) == Some(*number) && system != Some(*number));
    shared.is_some_and(|number| is_removable(Path::new("/sys"), number))
}

/// Whether the device of this number can be unplugged: it says so itself, or is connected by USB (whose hard disks say that
/// they are fixed).
fn is_removable(sys: &Path, number: u64) -> bool {
    // The C library's makedev: the minor number lies on both sides of the major one.
    let major = (number >> 8) & 0xfff | (number >> 32) & !0xfff;
    let minor = number & 0xff | (number >> 12) & !0xff;
    let Ok(device) = sys.join(format!("dev/block/{major}:{minor}")).canonicalize() else { return false };
    let says_so =
        |folder: &Path| std::fs::read_to_string(folder.join("removable")).is_ok_and(|said| said.trim() == "1");
    // A partition lies in the folder of its disk.
    device.ancestors().take(2).any(says_so)
        || device.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A disk with one partition, as the kernel shows it; whether its partition is found to be removable.
    fn of_disk(bus: &str, removable: &str) -> bool {
        let sys = tempfile::TempDir::new().unwrap();
        let partition = sys.path().join(format!("devices/{bus}/block/sdb/sdb1"));
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.parent().unwrap().join("removable"), removable).unwrap();
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        symlink(&partition, sys.path().join("dev/block/8:17")).unwrap();
        is_removable(sys.path(), 8 << 8 | 17)
    }

    #[test]
    fn a_device_that_can_be_unplugged_is_known() {
        assert!(of_disk("pci0000:00/usb2/2-1", "0\n"));
        assert!(of_disk("platform/mmc_host", "1\n"));
        assert!(!of_disk("pci0000:00/ata1", "0\n"));
        assert!(!is_removable(Path::new("/nowhere"), 1));
        // What this program's own temporary files lie on is no device of a bureau.
        let dir = tempfile::TempDir::new().unwrap();
        assert!(!are_on_one_removable(dir.path(), Path::new("/nowhere")));
    }
}
