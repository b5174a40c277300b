//! Files that may change while a program runs: certificates, keys, passwords.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Between two looks.
pub const LOOK: Duration = Duration::from_secs(10);

type Contents = Vec<Option<Vec<u8>>>;

/// Files, and what was in them when it was used.
pub struct Watched {
    files: Vec<PathBuf>,
    used: Contents,
    /// What the last look found.
    seen: Contents,
    looked: Instant,
}

impl Watched {
    /// These files, as they are now.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files: Vec<_> = files.into_iter().collect();
        let used = read(&files);
        Self { files, seen: used.clone(), used, looked: Instant::now() }
    }

    /// Whether all of them can be read, something else is in them than was used, and who writes them is done: it was so at the look before, or
    /// they were not touched for as long. It is looked every [`LOOK`] at most. True until [`Watched::use_now`].
    pub fn have_changed(&mut self) -> bool {
        if self.files.is_empty() || self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let found = read(&self.files);
        let rests = (found == self.seen || self.files.iter().all(is_old)) && found.iter().all(Option::is_some);
        self.seen = found;
        rests && self.seen != self.used
    }

    /// What the last look found is used from now on; or can't be, and need not be tried again.
    pub fn use_now(&mut self) {
        self.used.clone_from(&self.seen);
    }
}

fn is_old(file: &PathBuf) -> bool {
    let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > LOOK))
}

// A folder, as of certificates, is not looked into.
fn read(files: &[PathBuf]) -> Contents {
    let read = |file: &PathBuf| if file.is_dir() { Some(Vec::new()) } else { std::fs::read(file).ok() };
    files.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_rests() {
        let file = std::env::temp_dir().join(format!("caselock-watched-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("one");
        let mut watched = Watched::new([file.clone(), std::env::temp_dir()]);
        let look = |watched: &mut Watched| {
            watched.looked = Instant::now().checked_sub(LOOK).unwrap();
            watched.have_changed()
        };
        assert!(!look(&mut watched));
        write("tw");
        assert!(!look(&mut watched), "it may still be written");
        write("two");
        assert!(!look(&mut watched));
        assert!(look(&mut watched) && look(&mut watched));
        assert!(!watched.have_changed(), "it is not looked so often");
        watched.use_now();
        assert!(!look(&mut watched));
        std::fs::remove_file(&file).unwrap();
        assert!(!look(&mut watched) && !look(&mut watched));
        write("two");
        assert!(!look(&mut watched) && !look(&mut watched));
        std::fs::remove_file(&file).unwrap();
    }
}
