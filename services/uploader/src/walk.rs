//! Which files there are.

use std::path::{Path, PathBuf};

use anyhow::Context;
use walkdir::{DirEntry, WalkDir};

/// The regular files under the paths, in a stable order. Hidden files and folders below a folder are passed over, as are
/// links; what is named outright is taken whatever its name.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let root = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry.path());
        for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(visible) {
            let entry = entry.with_context(|| format!("look through {}", path.display()))?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
