//! The protocol spoken from outside: a client that stock tools generate from `proto/` alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use caselock_e2e::{Footage, Kind, Stack, root};
use caselock_store::read_document;

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
