//! The load generator: what it makes is stored, and its check finds what is not there.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Output},
};

use caselock_e2e::{Footage, Kind, Stack, Uploader, binary};
use serde_json::Value;

/// Twelve files at once through a gateway that has memory for two segments: whoever waits for memory does not keep the bytes of
/// those that have it from coming through, and nobody is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_memory_stops_nobody_else() {
    // What is set aside for these, and 27 MiB, of which one bureau may have 16.
    let settings = [
        ("gateway.connections", "4"),
        ("gateway.streams", "16"),
        ("gateway.bureau_share_percent", "60"),
        ("gateway.memory_budget", "170000000"),
    ];
    let mut stack = Stack::start(Kind::Embedded, &settings).await;
    let mut footage = Footage::new();
    for number in 0..12 {
        footage = footage.random(&format!("{number}"), 24 << 20);
    }
    let run = Uploader::new(&stack).upload(footage.path(), &["--parallel", "12"]);
    run.expect_stored(12);
    assert_eq!(run.of_kind("waiting").count(), 0, "{:?}", run.of_kind("waiting").next());
    stack.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_checked_whole_and_again() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let footage = Footage::new().random("a", 9 << 20).random("b", 70_000).random("c", 1);
    let out = stack.dir.path().join("out");
    let servers = [
        ("--brokers", stack.kafka.brokers.clone()),
        ("--topic-prefix", stack.kafka.topic_prefix.clone()),
        ("--partitions", stack.kafka.partitions.unwrap().to_string()),
        ("--endpoint", stack.s3.endpoint.clone().unwrap()),
        ("--region", stack.s3.region.clone()),
        ("--access-key", stack.s3.access_key.clone().unwrap()),
        ("--secret-key", stack.s3.secret_key.clone().unwrap()),
        ("--bucket", stack.s3.bucket.clone()),
        ("--prefix", stack.s3.prefix.clone()),
    ];
    let servers: Vec<String> = servers.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let ca = stack.dir.path().join("ca");
    let run = Command::new(binary("caselock-loadtest"))
        .args(["run", footage.path().to_str().unwrap(), "--out", out.to_str().unwrap(), "--server", &stack.server])
        .args(["--ca", ca.to_str().unwrap(), "--receipt-key", ca.join("receipt-key.pub.pem").to_str().unwrap()])
        .args(["--bureaus", "demo,other", "--rate", "2", "--for", "2", "--files", "2", "--cases"])
        .args(&servers)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let report = &report["report"];
    assert!(report["recordings"] == report["stored"] && report["problems"] == Value::Array(Vec::new()), "{report}");
    assert!(report["whole"]["max"].as_f64() >= report["until_receipt"]["max"].as_f64(), "{report}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.matches("<svg").count() == 5 && page.contains("Everything that was acknowledged is there"), "{page}");

    let check = || -> Output {
        Command::new(binary("caselock-loadtest")).arg("check").arg(&out).args(&servers).output().unwrap()
    };
    assert!(check().status.success());
    // Had it been something else that was sent, or had no receipt come, it would have said so.
    let record = out.join("record.jsonl");
    let lines = fs::read_to_string(&record).unwrap();
    for (field, wrong, said) in [
        ("blake3", Value::from("00"), "has the BLAKE3"),
        ("stored", Value::Null, "acknowledged, and not stored"),
        ("bureau", Value::from("nobody"), "there is no v1/nobody/"),
    ] {
        let (first, others) = lines.split_once('\n').unwrap();
        let mut first: Value = serde_json::from_str(first).unwrap();
        first[field] = wrong;
        fs::write(&record, format!("{first}\n{others}")).unwrap();
        let found = check();
        let text = String::from_utf8(found.stdout).unwrap();
        assert!(
            found.status.code() == Some(1) && text.contains(said) && text.contains(", 1 problems"),
            "{field}: {text}"
        );
    }
    stack.stop();
}
