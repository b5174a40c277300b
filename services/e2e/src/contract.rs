//! Events and documents, held against their contract by whoever has only the contract: `outside/contract.py`.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use caselock_log::{Entry, Log, Topic, read_to_end};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{header, root};

/// What was found to keep to its contract.
#[derive(Debug, Deserialize)]
pub struct Kept {
    /// Events by type.
    pub events: BTreeMap<String, u64>,
    /// Documents by media type.
    pub documents: BTreeMap<String, u64>,
    /// Types and media types that the contract has, and nobody saw here.
    pub unseen: Vec<String>,
}

impl Kept {
    /// How many events there were of a type, named without what all types share.
    pub fn told(&self, kind: &str) -> u64 {
        self.events.get(&format!("io.caselock.{kind}.v1")).copied().unwrap_or_default()
    }
}

/// Holds every event that a log has by now, and these documents, against the contract.
pub async fn kept_contract(log: &dyn Log, documents: &[Value]) -> Kept {
    let python = std::env::var("CASELOCK_TEST_PYTHON")
        .expect("CASELOCK_TEST_PYTHON names a Python with the contract's libraries");
    let mut lines: Vec<_> = records(log, Topic::Events).await.iter().map(event).collect();
    lines.extend(documents.iter().map(|document| json!({ "document": document })));
    let mut child = Command::new(python)
        .arg(root().join("services/e2e/outside/contract.py"))
        .arg(root().join("proto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // Where it ends before it has read all, what it says tells why.
    let _ = lines.iter().try_for_each(|line| writeln!(input, "{line}"));
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn event(Entry { record, .. }: &Entry) -> Value {
    let headers = record.headers.iter().map(|(name, _)| (name.clone(), header(record, name).into()));
    let key = String::from_utf8(record.key.to_vec()).unwrap();
    let payload = BASE64_STANDARD.encode(record.payload.as_deref().unwrap());
    json!({ "event": { "key": key, "headers": headers.collect::<serde_json::Map<_, Value>>(), "payload": payload } })
}

/// Every record of a topic by now.
pub async fn records(log: &dyn Log, topic: Topic) -> Vec<Entry> {
    let mut entries = Vec::new();
    read_to_end(log, topic, |entry| entries.push(entry)).await.unwrap();
    entries
}
