//! Which files there are.

use std::path::{Path, PathBuf};

use anyhow::Context;
use walkdir::{DirEntry, WalkDir};

/// What was found below some paths.
#[derive(Default)]
pub struct Found {
    /// The regular files, in a stable order, each once.
    pub files: Vec<PathBuf>,
    /// What could not be looked into. It keeps nothing else from being found.
    pub unread: Vec<(PathBuf, anyhow::Error)>,
}

/// What there is under the paths. Hidden files and folders below a folder are passed over, as are links; what is named
/// outright is taken whatever its name. An error is a path that is not there at all.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for path in paths {
        let root = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry.path());
        for entry in WalkDir::new(&root).sort_by_file_name().into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => found.files.push(entry.into_path()),
                Ok(_) => {}
                Err(error) => {
                    let place = error.path().unwrap_or(&root).to_owned();
                    let error = std::io::Error::from(error);
                    found.unread.push((place, anyhow::Error::new(error).context("look into the folder")));
                }
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.files.retain(|file| seen.insert(file.clone()));
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Folders inside each other until their path is longer than the system takes (PATH_MAX): nobody can look into the last,
    /// root neither.
    const TOO_DEEP: &str =
        r#"name=$(printf 'd%.0s' {1..200}); for i in {1..22}; do mkdir "$name" && cd "$name" || exit 1; done"#;

    #[test]
    fn what_cannot_be_looked_into_hides_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"1").unwrap();
        std::fs::write(dir.path().join("z"), b"1").unwrap();
        let made = std::process::Command::new("bash").args(["-c", TOO_DEEP]).current_dir(dir.path()).status();
        assert!(made.unwrap().success());
        let found = files(&[dir.path().to_owned()]).unwrap();
        assert_eq!(found.files.len(), 2, "{:?}", found.files);
        let [(place, error)] = found.unread.try_into().unwrap();
        assert!(place.starts_with(dir.path().canonicalize().unwrap()), "{place:?}");
        assert!(format!("{error:#}").starts_with("look into the folder: "), "{error:#}");
        assert!(files(&[dir.path().join("not there")]).is_err());
    }
}
