//! A disk that is full for a while: nothing is lost, and nothing need be started again. A disk that fails: the process ends,
//! since nobody knows what the disk holds, and what was acknowledged is there when it is started again.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_e2e::{Footage, Kind, Run, Stack, Uploader, root, wait_until};

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
    wait_until("the log's failure", || program.log().contains("the log's file was opened again"));
    wait_until("the store's failure", || program.log().contains("File too large"));
    let unlimited = Command::new("prlimit").args(["--pid", &program.id(), "--fsize=unlimited"]).status().unwrap();
    assert!(unlimited.success());
    let run = Run::of(child);
    run.expect_stored(1);
    let stored = run.of_kind("stored").next().unwrap();
    assert_eq!(stored["blake3"], blake3::hash(&std::fs::read(&footage.files()[0]).unwrap()).to_hex().as_str());
    stack.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_process() {
    let mut stack = Stack::prepare(Kind::Embedded, &[]).await;
    let (library, flag) = (stack.dir.path().join("fsync.so"), stack.dir.path().join("fails"));
    let source = root().join("services/e2e/outside/fsync.c");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(made.unwrap().success());
    let preload = format!("export LD_PRELOAD={} CASELOCK_TEST_FSYNC_FAILS={}", library.display(), flag.display());
    stack.first = preload.leak();
    stack.run("standalone");
    let footage = Footage::new().random("before", 1000);
    let uploader = Uploader::new(&stack);
    uploader.upload(footage.path(), &[]).expect_stored(1);
    let footage = footage.random("a", 120 << 20);
    std::fs::write(&flag, "").unwrap();
    let child = uploader.start(footage.path(), &[]);
    let program = stack.programs.get_mut("standalone").unwrap();
    wait_until("the end of the process", || program.ended().is_some());
    assert_eq!(program.ended(), Some(1));
    assert!(program.log().contains("the log's file failed"), "{}", program.log());
    std::fs::remove_file(&flag).unwrap();
    stack.run("standalone");
    let run = Run::of(child);
    run.expect_stored(2);
    let stored = run.of_kind("stored").find(|event| event["size"] == 120 << 20).unwrap();
    let bytes = std::fs::read(footage.path().join("a")).unwrap();
    assert_eq!(stored["blake3"], blake3::hash(&bytes).to_hex().as_str());
    stack.stop();
}
