//! kill -9 of the real Kafka and the real S3 server under load: everything waits, then goes on.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use caselock_e2e::{Footage, Kind, Run, Server, Stack, Uploader, wait_until};
use caselock_store::read_document;

const SEGMENT: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_and_the_store_are_killed_under_load() {
    let (kafka, s3) = (Server::start("kafka.sh"), Server::start("s3.sh"));
    let mut variables = kafka.variables();
    variables.extend(s3.variables());
    let mut stack = Stack::prepare_on(Kind::Distributed, &[], &|name| variables.get(name).cloned()).await;
    for service in stack.services() {
        stack.run(service);
    }
    for (round, server) in [&kafka, &s3, &kafka, &s3].into_iter().enumerate() {
        let footage = Footage::new()
            .random(&format!("large {round}"), 10 * SEGMENT + 3)
            .random(&format!("small {round}"), 77)
            .random(&format!("middle {round}"), 3 * SEGMENT);
        let uploader = Uploader::new(&stack);
        let total: u64 = footage.files().iter().map(|path| path.metadata().unwrap().len()).sum();
        let count = |what: &str| stack.metric("gateway", &format!("caselock_gateway_{what}_bytes"));
        let (received, accepted) = (count("received"), count("accepted"));
        let before = stack.metric("archiver", "caselock_archiver_parts");
        let child = uploader.start(footage.path(), &["--bwlimit", "40M"]);
        wait_until("parts in the store", || stack.metric("archiver", "caselock_archiver_parts") > before);
        let came = count("received") - received;
        // Between this look and the kill more may come.
        let in_flight = came.saturating_sub(count("accepted") - accepted) + SEGMENT;
        let away = Instant::now();
        server.kill();
        // So long it is away.
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.start_again();
        // What waits longer than the gateway waits for the log is refused, and comes again.
        let was_short = away.elapsed() < Duration::from_secs(20);
        let run = Run::of(child);
        run.expect_stored(3);
        let came = count("received") - received;
        println!("{total} bytes; {came} came; at most {in_flight} were in flight at the kill");
        assert!(
            !was_short || came <= total + in_flight,
            "{came} bytes came of {total}, {in_flight} in flight at the kill"
        );
        stack.wait_derived(&run).await;
        let store = stack.store().await;
        for event in run.of_kind("stored") {
            let bytes = std::fs::read(event["file"].as_str().unwrap()).unwrap();
            let key = format!("v1/demo/recordings/{}", event["recording_id"].as_str().unwrap());
            // A broker that lost what it had acknowledged would show as a later generation.
            let key = format!("{key}/0/original");
            assert_eq!(store.versions(&key).await.unwrap().len(), 1, "{key}");
            let (_, stored) = read_document(&*store, &key, bytes.len()).await.unwrap().unwrap();
            assert!(stored == bytes, "{key} is not {}", event["file"]);
        }
    }
    stack.stop();
}
