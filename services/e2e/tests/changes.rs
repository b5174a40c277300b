//! A file that changes while it is read is never stored as something it was not.
#![allow(clippy::unwrap_used)]

use std::{fs::File, io::Write, os::unix::fs::FileExt};

use caselock_e2e::{Footage, Kind, Run, Stack, Uploader, on_both_stacks, wait_until};

on_both_stacks!(a_file_that_changes_while_it_is_read_is_told_and_taken_as_it_is_in_the_end);

const SEGMENT: u64 = 8 << 20;

async fn a_file_that_changes_while_it_is_read_is_told_and_taken_as_it_is_in_the_end(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let uploader = Uploader::new(&stack);
    type Change = fn(&mut File);
    let overwrite: Change = |file| file.write_all_at(b"other", 5 * SEGMENT).unwrap();
    let grow: Change = |file| file.write_all(b"more").unwrap();
    let shrink: Change = |file| file.set_len(3 * SEGMENT).unwrap();
    for (name, change) in [("overwritten", overwrite), ("grown", grow), ("shrunk", shrink)] {
        let footage = Footage::new().random(name, 6 * SEGMENT);
        let path = footage.path().join(name);
        let before = stack.metric(stack.gateway(), "caselock_gateway_accepted_bytes");
        let child = uploader.start(footage.path(), &["--bwlimit", "20M", "--patience", "5"]);
        let sent = || stack.metric(stack.gateway(), "caselock_gateway_accepted_bytes") > before;
        wait_until("the first segments", sent);
        change(&mut File::options().append(name == "grown").write(true).open(&path).unwrap());
        let run = Run::of(child);
        assert_eq!(run.code, 5, "{name}: {}", run.stderr);
        assert_eq!(run.of_kind("stored").count(), 0, "{name}");
        let failed = run.of_kind("failed").next().unwrap();
        assert!(failed["error"].as_str().unwrap().contains("changed"), "{name}: {failed}");
        // The next run takes it as it is now.
        let run = uploader.upload(footage.path(), &[]);
        run.expect_stored(1);
        let whole = blake3::hash(&std::fs::read(&path).unwrap());
        assert_eq!(run.of_kind("stored").next().unwrap()["blake3"], whole.to_hex().as_str(), "{name}");
    }
    stack.stop();
}
