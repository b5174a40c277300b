//! The quickstart, as a new user runs it, with the programs of this build.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use caselock_e2e::{binary, root};

/// What the script says, to standard output and standard error, where it ends well.
fn quickstart(demo: &Path, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(root().join("deploy/quickstart.sh"));
    command.args(arguments).env("CASELOCK_DEMO", demo).env("LANG", "C.UTF-8");
    command.env("CASELOCK_PROGRAMS", binary("caselock").parent().unwrap());
    let output = command.output().unwrap();
    let [said, noise] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{arguments:?}: {said}{noise}");
    (said, noise)
}

/// Stops what the script started, whatever happens.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if self.0.exists() && std::thread::panicking() {
            quickstart(self.0, &["stop"]);
        }
    }
}

#[test]
fn the_quickstart_shows_what_it_stored_and_a_second_run_uploads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo");
    let _stop = Stop(&demo);
    let (table, noise) = quickstart(&demo, &[]);
    for (name, kind) in [
        ("现场检查 0001.mp4", "video"),
        ("site-camera.ts", "video"),
        ("询问录音.mp3", "audio"),
        ("photo-1.jpg", "photo"),
        ("photo-2.png", "photo"),
        ("检查笔录.pdf", "document"),
    ] {
        let row = table.lines().rfind(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} in {table}{noise}"));
        assert!(row.split_whitespace().any(|word| word == kind), "{kind} in {row}");
        let bytes = std::fs::read(demo.join("footage").join(name)).unwrap();
        // The first of the four lines that the digest takes.
        assert!(row.contains(&blake3::hash(&bytes).to_hex()[..16]), "the digest of {name} in {row}");
        assert!(row.contains(&bytes.len().to_string()), "the size of {name} in {row}");
    }
    for shown in ["original", "proxy.mp4", "proxy.m4a", "poster.jpg", "preview.jpg", "waveform.jpg"] {
        assert!(table.contains(shown), "{shown} in {table}");
    }
    // How it stands towards its deadline, its case, and what its lock follows from.
    for shown in ["on time", "2026-罚-17", "by case", "by the least period"] {
        assert!(table.contains(shown), "{shown} in {table}");
    }
    for shown in ["quickstart.sh show", "quickstart.sh stop", "quickstart.sh delete"] {
        assert!(table.contains(shown), "{shown} in {table}");
    }

    let (again, noise) = quickstart(&demo, &[]);
    assert!((again.clone() + &noise).contains("nothing had to be uploaded"), "{again}{noise}");
    assert_eq!(again.lines().filter(|line| line.contains("original")).count(), 6, "{again}");
    assert!(quickstart(&demo, &["show"]).0.contains("photo-1.jpg"));
    // As the last lines say: the command is used with the demo.
    let script = "source \"$0\"/env && caselock find --case-number 2026-罚-17";
    let found = Command::new("bash").args(["-c", script]).arg(&demo).output().unwrap();
    let said = String::from_utf8_lossy(&found.stdout);
    assert!(
        found.status.success() && said.contains("询问录音.mp3"),
        "{said}{}",
        String::from_utf8_lossy(&found.stderr)
    );
    quickstart(&demo, &["stop"]);
    quickstart(&demo, &["delete"]);
    assert!(!demo.exists());
}
