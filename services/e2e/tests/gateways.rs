//! Two gateways on one Kafka: one recording through both at once, and two files under one key.
#![allow(clippy::unwrap_used)]

use caselock_e2e::{Footage, Kind, Program, Run, Stack, Uploader, free_port, wait_until};

const SEGMENT: u64 = 8 << 20;

async fn two_gateways() -> (Stack, Program, [Uploader; 2]) {
    let stack = Stack::start(Kind::Distributed, &[]).await;
    let port = free_port();
    let second = stack.spawn("gateway", free_port(), &[("gateway.listen", format!("127.0.0.1:{port}"))]).ready();
    let server = format!("https://localhost:{port}");
    let uploaders = [Uploader::new(&stack), Uploader::of(&stack, "demo", &server)];
    (stack, second, uploaders)
}

/// Both upload at once; how it ended for each.
fn at_once(uploaders: &[Uploader; 2], paths: [&std::path::Path; 2], more: &[&str]) -> [Run; 2] {
    let running = [0, 1].map(|i| uploaders[i].start(paths[i], more));
    running.map(Run::of)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_recording_through_both_is_one_object_with_one_receipt() {
    let (mut stack, second, uploaders) = two_gateways().await;
    let footage = Footage::new().random("a", 12 * SEGMENT + 3);
    let runs = at_once(&uploaders, [footage.path(); 2], &[]);
    let receipts = runs.each_ref().map(|run| {
        run.expect_stored(1);
        let stored = run.of_kind("stored").next().unwrap();
        (stored["recording_id"].clone(), std::fs::read(stored["receipt"].as_str().unwrap()).unwrap())
    });
    assert_eq!(receipts[0], receipts[1]);
    let key = format!("v1/demo/recordings/{}/0/original", receipts[0].0.as_str().unwrap());
    assert_eq!(stack.store().await.versions(&key).await.unwrap().len(), 1);
    assert_eq!(second.stop(), Some(0));
    stack.stop();
}

/// A gateway is told to stop in the midst of an upload: it lets the segments that were begun end, and ends with 0; the command
/// goes on at the other one, and nothing is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_fails_no_upload() {
    let (mut stack, second, uploaders) = two_gateways().await;
    let footage = Footage::new().random("a", 8 * SEGMENT + 3).random("b", 5 * SEGMENT);
    let total = 13 * SEGMENT + 3;
    let other = uploaders[1].server.clone();
    let uploader = Uploader::of(&stack, "demo", &format!("{},{other}", stack.server));
    let accepted = |program: &Program| program.metric("caselock_gateway_accepted_bytes");
    let mut child = uploader.start(footage.path(), &["--bwlimit", "10M"]);
    wait_until("some segments", || accepted(&stack.programs["gateway"]) >= 2 * SEGMENT);
    let mut first = stack.programs.remove("gateway").unwrap();
    first.signal("TERM");
    let mut by_first = 0;
    wait_until("its end", || {
        // The last that can be read of it: 0 once its admin port has gone.
        by_first = accepted(&first).max(by_first);
        first.ended().is_some()
    });
    assert_eq!(first.ended(), Some(0));
    assert!(child.try_wait().unwrap().is_none(), "everything was stored before the gateway stopped");
    Run::of(child).expect_stored(2);
    let by_second = accepted(&second);
    assert!(by_second > 0 && by_first + by_second <= total, "{by_first} + {by_second} bytes were accepted of {total}");
    assert_eq!(second.stop(), Some(0));
    stack.stop();
}

/// Whoever asks whether it is ready is told at once that it is not, while the segment that was begun is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_so_and_waits_for_what_was_begun() {
    let (mut stack, second, uploaders) = two_gateways().await;
    let footage = Footage::new().random("a", SEGMENT + 3);
    let other = uploaders[1].server.clone();
    let uploader = Uploader::of(&stack, "demo", &format!("{},{other}", stack.server));
    // Each of its segments takes some eight seconds.
    let child = uploader.start(footage.path(), &["--bwlimit", "1M"]);
    let mut first = stack.programs.remove("gateway").unwrap();
    wait_until("a part of a segment", || first.metric("caselock_gateway_received_bytes") > 1 << 20);
    assert!(!first.admin("/readyz").contains("draining"));
    first.signal("TERM");
    wait_until("word of it", || first.admin("/readyz").contains("draining") || first.ended().is_some());
    assert_eq!(first.ended(), None, "it ended before it was done with what was begun");
    wait_until("its end", || first.ended().is_some());
    assert_eq!(first.ended(), Some(0));
    Run::of(child).expect_stored(1);
    // What was begun at the first was accepted there.
    assert!(second.metric("caselock_gateway_accepted_bytes") <= 3);
    assert_eq!(second.stop(), Some(0));
    stack.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_under_one_key_never_mix() {
    let (mut stack, second, uploaders) = two_gateways().await;
    let footage = [Footage::new().random("a", 6 * SEGMENT), Footage::new().random("b", 6 * SEGMENT)];
    // Under one name as well, or the names would tell them apart at once.
    std::fs::rename(footage[1].path().join("b"), footage[1].path().join("a")).unwrap();
    let runs = at_once(&uploaders, [footage[0].path(), footage[1].path()], &["--set", "key=the-same"]);
    let stored: Vec<_> = runs.iter().flat_map(|run| run.of_kind("stored")).collect();
    assert!(stored.len() <= 1, "both stored: {stored:?}");
    for run in &runs {
        // Whoever is refused is told which key it is, for a person to look at.
        assert!(run.code == 0 || run.code == 3, "{}", run.stderr);
        for failed in run.of_kind("failed") {
            let error = failed["error"].as_str().unwrap();
            let known = ["SEGMENT_CONFLICT", "SEAL_DIGEST_MISMATCH", "OPEN_CONFLICT"];
            assert!(known.iter().any(|reason| error.contains(reason)), "{error}");
        }
    }
    // Whichever comes alone is stored, once, and with its own bytes.
    let again = uploaders[0].upload(footage[0].path(), &[]);
    again.expect_stored(1);
    let store = stack.store().await;
    for event in stored.into_iter().chain(again.of_kind("stored")) {
        let whole = blake3::hash(&std::fs::read(event["file"].as_str().unwrap()).unwrap());
        assert_eq!(event["blake3"], whole.to_hex().as_str());
        let prefix = format!("v1/demo/recordings/{}/", event["recording_id"].as_str().unwrap());
        let keys = store.keys(&prefix, None).await.unwrap().keys;
        assert_eq!(keys.iter().filter(|key| key.ends_with("/original")).count(), 1, "{keys:?}");
    }
    assert_eq!(second.stop(), Some(0));
    stack.stop();
}
