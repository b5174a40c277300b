//! Caselock as it is seen from outside: a client that stock tools generate from `proto/` alone, and whoever reads events and
//! documents by their contract.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use caselock_domain::{event::RecordingEvent, id::RecordingId, time::Timestamp};
use caselock_e2e::{Footage, Kind, Stack, Uploader, root};
use caselock_log::{Record, Topic};
use caselock_proto::events::v1::{RecordingAbandoned, RecordingResendNeeded, RecordingVerificationFailed};
use caselock_store::read_document;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_uploads_resumes_and_gets_its_receipt() {
    let python = std::env::var("CASELOCK_TEST_PYTHON").expect("CASELOCK_TEST_PYTHON names a Python with grpcio-tools");
    let mut stack = Stack::start(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("from outside.bin", (8 << 20) + 3333);
    let file = footage.files().remove(0);
    let ca = |name: &str| stack.dir.path().join("ca").join(name);
    let output = Command::new(python)
        .arg(root().join("services/e2e/outside/client.py"))
        .arg(root().join("proto"))
        .arg(stack.server.replace("https://", ""))
        .args([ca("ca.pem"), ca("demo.pem"), ca("demo.key"), ca("receipt-key.pub.pem"), file.clone()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let payload: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    stack.stop();
    let bytes = std::fs::read(&file).unwrap();
    let key = payload["object_key"].as_str().unwrap();
    let (version, stored) = read_document(&*stack.store().await, key, bytes.len()).await.unwrap().unwrap();
    assert!(stored == bytes && payload["version"] == version.as_str());
}

/// Every event on the topic, and every document in the bucket, is what the contract says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_documents_keep_to_their_contract() {
    let python = std::env::var("CASELOCK_TEST_PYTHON").expect("CASELOCK_TEST_PYTHON names a Python with cloudevents");
    let footage =
        Footage::new().with_demo().with("broken.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41 and no more");
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let run =
        Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=2026-1", "--set", "notice_given=yes"]);
    run.expect_stored(footage.files().len());
    stack.wait_derived(&run).await;
    // The events follow the documents; with the services they are all there.
    stack.stop();
    let mut lines = events(&stack).await;
    lines.extend(rare_events());
    let store = stack.store().await;
    for event in run.of_kind("stored") {
        let folder = format!("v1/demo/recordings/{}/0/", event["recording_id"].as_str().unwrap());
        for name in ["manifest.json", "verification.json", "derived.json"] {
            let (_, bytes) = read_document(&*store, &format!("{folder}{name}"), 1 << 20).await.unwrap().unwrap();
            lines.push(json!({ "document": serde_json::from_slice::<Value>(&bytes).unwrap() }));
        }
    }
    let mut child = Command::new(python)
        .arg(root().join("services/e2e/outside/contract.py"))
        .arg(root().join("proto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in &lines {
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = footage.files().len();
    assert!(seen["events"]["io.caselock.recording.stored.v1"].as_u64() >= Some(files as u64), "{seen}");
    assert_eq!(seen["documents"]["application/vnd.caselock.manifest.v1+json"], files);
}

fn line(key: &[u8], headers: impl Iterator<Item = (String, String)>, payload: &[u8]) -> Value {
    let headers: serde_json::Map<_, _> = headers.map(|(name, value)| (name, value.into())).collect();
    let key = String::from_utf8(key.to_vec()).unwrap();
    json!({ "event": { "key": key, "headers": headers, "payload": BASE64_STANDARD.encode(payload) } })
}

/// The events on the real topic.
async fn events(stack: &Stack) -> Vec<Value> {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let records = stack.records(Topic::Events).await.into_iter().map(|entry| entry.record);
    let line = |record: Record| {
        let headers = record.headers.iter().map(|(name, value)| (name.clone(), text(value)));
        line(&record.key, headers, record.payload.as_deref().unwrap())
    };
    records.map(line).collect()
}

/// Those that tell of what does not happen here, made as the services make them.
fn rare_events() -> Vec<Value> {
    let bureau = "demo".parse().unwrap();
    let id = RecordingId::derive(&bureau, &"rare".parse().unwrap());
    let (recording_id, bureau_id) = (id.to_string(), bureau.to_string());
    let digest = bytes::Bytes::from_static(&[7; 32]);
    let events = [
        RecordingEvent::ResendNeeded(RecordingResendNeeded {
            recording_id: recording_id.clone(),
            generation: 1,
            bureau: bureau_id.clone(),
            reason: "FOOTAGE_LOST".into(),
        }),
        RecordingEvent::Abandoned(RecordingAbandoned {
            recording_id: recording_id.clone(),
            generation: 1,
            bureau: bureau_id.clone(),
            reason: "REQUESTED".into(),
        }),
        RecordingEvent::VerificationFailed(RecordingVerificationFailed {
            recording_id,
            generation: 1,
            bureau: bureau_id,
            expected_blake3: digest.clone(),
            actual_blake3: digest,
        }),
    ];
    let records =
        events.iter().map(|event| event.record(&bureau, id, 1, Timestamp::from_second(1_770_000_000).unwrap()));
    let text = |(name, value): (&'static str, String)| (name.to_owned(), value);
    records.map(|record| line(&record.key, record.headers.into_iter().map(text), &record.payload)).collect()
}
