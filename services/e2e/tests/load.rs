//! The load generator: what it makes is stored, and its check finds what is not there.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Output},
};

use caselock_domain::{
    digest::Blake3,
    receipt::{Envelope, Receipt, ReceiptPayload, ReceiptSigner},
};
use caselock_e2e::{Footage, Kind, Stack, Uploader, binary};
use serde_json::{Value, json};

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
        ("--access-key", stack.s3.access_key.as_ref().unwrap().read().unwrap()),
        ("--secret-key", stack.s3.secret_key.as_ref().unwrap().read().unwrap()),
        ("--bucket", stack.s3.bucket.clone()),
        ("--prefix", stack.s3.prefix.clone()),
    ];
    let servers: Vec<String> = servers.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let keys = stack.dir.path().join("ca");
    let loadtest = |arguments: &[&str]| -> Output {
        let key = keys.join("receipt-key.pub.pem");
        let mut command = Command::new(binary("caselock-loadtest"));
        command.args(arguments).args(["--receipt-key", key.to_str().unwrap()]).args(&servers).output().unwrap()
    };
    let (files, ca, to) = (footage.path().to_str().unwrap(), keys.to_str().unwrap(), out.to_str().unwrap());
    let run = |server: &str, arguments: &[&str]| {
        let all = ["run", files, "--out", to, "--ca", ca, "--bureaus", "demo,other", "--server", server];
        loadtest(&[&all, arguments].concat())
    };
    // What never got in is missing as well.
    let nowhere = run("https://localhost:9", &["--patience", "1"]);
    let said = String::from_utf8(nowhere.stdout).unwrap();
    assert!(nowhere.status.code() == Some(1) && said.contains("PROBLEM") && said.contains("not stored"), "{said}");

    let run = run(&stack.server, &["--rate", "2", "--for", "2", "--files", "2", "--cases"]);
    assert!(run.status.success(), "{run:?}");
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let report = &report["report"];
    assert!(report["recordings"] == report["stored"] && report["problems"] == Value::Array(Vec::new()), "{report}");
    assert!(report["whole"]["max"].as_f64() >= report["until_receipt"]["max"].as_f64(), "{report}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.matches("<svg").count() == 5 && page.contains("Everything is there"), "{page}");

    let check = || loadtest(&["check", to]);
    assert!(check().status.success());
    // Had no receipt come, or one of something else, it would have said so; and had other bytes been vouched for, or another bureau.
    let record = out.join("record.jsonl");
    let lines = fs::read_to_string(&record).unwrap();
    let (head, recordings) = lines.split_once('\n').unwrap();
    let (first, others) = recordings.split_once('\n').unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    let signer = ReceiptSigner::from_pem(&fs::read_to_string(keys.join("receipt-key.pem")).unwrap()).unwrap();
    let vouched = |change: fn(&mut ReceiptPayload)| {
        let envelope: Envelope = serde_json::from_value(first["receipt"].clone()).unwrap();
        let mut payload = Receipt::try_from(&envelope).unwrap().payload().unwrap();
        change(&mut payload);
        let receipt = Envelope::from(&signer.sign(&payload).unwrap());
        json!({ "bureau": payload.bureau, "blake3": payload.blake3.to_hex(), "receipt": receipt })
    };
    for (wrong, said) in [
        (json!({ "receipt": null }), "acknowledged, and not stored"),
        (json!({ "blake3": "00" }), "its receipt says"),
        (json!({ "has_case": false }), "its receipt says"),
        (json!({ "receipt": { "payloadType": "other", "payload": "", "signatures": [] } }), "its receipt is not good"),
        (vouched(|payload| payload.blake3 = Blake3([0; 32])), "has the BLAKE3"),
        (vouched(|payload| payload.bureau = "nobody".parse().unwrap()), "there is no v1/nobody/"),
    ] {
        let mut line = first.clone();
        line.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        fs::write(&record, format!("{head}\n{line}\n{others}")).unwrap();
        fails(&check(), said);
    }
    // One that was cut short is not a whole one.
    fs::write(&record, format!("{head}\n{others}")).unwrap();
    fails(&check(), "it was cut short");
    stack.stop();
}

/// A check that found one problem, and says which.
#[track_caller]
fn fails(found: &Output, said: &str) {
    let text = String::from_utf8_lossy(&found.stdout);
    assert!(found.status.code() == Some(1) && text.contains(said) && text.contains(", 1 problems"), "{said}: {text}");
}
