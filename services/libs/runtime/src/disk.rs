//! How full a disk is.

use std::path::PathBuf;

use opentelemetry::KeyValue;

use crate::count::gauge;

/// Has metrics tell how large the file system below `path` is, and how much of it is free, as what it is used for.
pub fn observe(used_for: &'static str, path: PathBuf) {
    for (name, look) in [
        ("caselock_disk_size_bytes", (|disk| disk.f_blocks) as fn(&rustix::fs::StatVfs) -> u64),
        // What a process that is not root may still take.
        ("caselock_disk_available_bytes", |disk| disk.f_bavail),
    ] {
        let path = path.clone();
        gauge("caselock", name, move |observer| {
            // A file system that can't be asked has no number.
            if let Ok(disk) = rustix::fs::statvfs(&path) {
                observer.observe(look(&disk) * disk.f_frsize, &[KeyValue::new("used_for", used_for)]);
            }
        });
    }
}
