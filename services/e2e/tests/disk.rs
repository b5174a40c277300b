//! A disk that is full for a while: nothing is lost, and nothing need be started again.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_e2e::{Footage, Kind, Run, Stack, Uploader, wait_until};

/// The size no file may exceed, in the shell's blocks of 512 bytes: 40 MiB, less than the recording, and than the log with it.
const FULL: &str = "trap '' XFSZ; ulimit -S -f 81920";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_only_delays() {
    let mut stack = Stack::prepare(Kind::Embedded, &[]).await;
    stack.first = FULL;
    stack.run("standalone");
    let footage = Footage::new().random("a", 120 << 20);
    let uploader = Uploader::new(&stack);
    let child = uploader.start(footage.path(), &[]);
    let program = &stack.programs["standalone"];
    wait_until("the log's failure", 60, || program.log().contains("the log's file was opened again"));
    wait_until("the store's failure", 60, || program.log().contains("File too large"));
    let unlimited = Command::new("prlimit").args(["--pid", &program.id(), "--fsize=unlimited"]).status().unwrap();
    assert!(unlimited.success());
    let run = Run::of(child);
    run.expect_stored(1);
    let stored = run.of_kind("stored").next().unwrap();
    assert_eq!(stored["blake3"], blake3::hash(&std::fs::read(&footage.files()[0]).unwrap()).to_hex().as_str());
    stack.stop();
}
