//! Caselock as it is seen from outside: a client that stock tools generate from `proto/` alone, and whoever reads events and
//! documents by their contract.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
};

use caselock_domain::{
    case::{self, CaseChange, CaseEntry, CaseId, Kept},
    disposal::{self, Disposal, Removed},
    id::{BureauId, RecordingId},
    manifest::Manifest,
    object_key,
    time::Timestamp,
};
use caselock_e2e::{
    Footage, Kind, Program, Run, Stack, Uploader, header, kept_contract, on_both_stacks, root, wait_until,
};
use caselock_log::{Entry, Topic};
use caselock_store::{Store, read_document};
use serde_json::Value;
use tokio::{runtime::Handle, task::block_in_place};

/// What the registry tells in these tests.
const TOLD: [&str; 7] = [
    "io.caselock.case.opened.v1",
    "io.caselock.case.amended.v1",
    "io.caselock.case.closed.v1",
    "io.caselock.case.reopened.v1",
    "io.caselock.deadline.extended.v1",
    "io.caselock.retention.changed.v1",
    "io.caselock.flag.raised.v1",
];

/// What tells of what does not happen here: held against the contract where it does, in the tests of cases, deadlines, losses and
/// media jobs.
const RARE: [&str; 7] = [
    "io.caselock.deadline.missed.v1",
    "io.caselock.deadline.near.v1",
    "io.caselock.recording.abandoned.v1",
    "io.caselock.recording.disposed.v1",
    "io.caselock.recording.resend-needed.v1",
    "io.caselock.recording.verification-failed.v1",
    "io.caselock.retention.drifted.v1",
];

on_both_stacks!(a_generated_client_uploads_resumes_and_gets_its_receipt);

async fn a_generated_client_uploads_resumes_and_gets_its_receipt(kind: Kind) {
    let python = std::env::var("CASELOCK_TEST_PYTHON").expect("CASELOCK_TEST_PYTHON names a Python with grpcio-tools");
    let mut stack = Stack::start(kind, &[]).await;
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
    let footage =
        Footage::new().with_demo().with("broken.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41 and no more");
    let (mut stack, registry) = start().await;
    let run =
        Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=2026-1", "--set", "notice_given=yes"]);
    run.expect_stored(footage.files().len());
    let bound = live(&stack, "2026-1");
    stack.wait_derived(&run).await;
    wait_told(&stack);
    // The events of recordings follow the documents; with the services they are all there.
    assert_eq!(registry.stop(), Some(0));
    stack.stop();
    let store = stack.store().await;
    let demo: BureauId = "demo".parse().unwrap();
    let case = CaseId::derive(&demo, &"2026-1".to_owned().try_into().unwrap());
    let mut documents = documents(&*store, &object_key::case(&demo, case)).await;
    for id in ids(&run).into_iter().chain([bound]) {
        documents.extend(self::documents(&*store, &object_key::recording(&demo, id)).await);
    }
    documents.extend(rare_documents(&documents));
    let kept = kept_contract(&*stack.log().await, &documents).await;
    let files = footage.files().len() as u64 + 1;
    assert!(kept.told("recording.stored") >= files, "{kept:?}");
    // Amended, bound and noted.
    assert!(kept.told("case.amended") >= 3, "{kept:?}");
    assert_eq!(kept.documents["application/vnd.caselock.manifest.v1+json"], files);
    // The six of the case, and a rare one.
    assert_eq!(kept.documents[case::MEDIA_TYPE], 7);
    assert!(kept.unseen.iter().all(|kind| RARE.contains(&kind.as_str())), "{kept:?}");
}

/// The examples in the docs read the real broker from the start: each event once, all of them, in order for each recording
/// and case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_read_every_event_once_and_in_order() {
    let python =
        std::env::var("CASELOCK_TEST_PYTHON").expect("CASELOCK_TEST_PYTHON names a Python with Kafka's client");
    let libs =
        std::env::var("CASELOCK_TEST_KAFKA_LIBS").expect("CASELOCK_TEST_KAFKA_LIBS names a folder of Kafka's jars");
    let (mut stack, registry) = start().await;
    let footage = Footage::new().random("a", 1000).random("b", 2000).random("c", 3000);
    Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=2026-2"]).expect_stored(3);
    live(&stack, "2026-2");
    wait_told(&stack);
    assert_eq!(registry.stop(), Some(0));
    stack.stop();
    let entries = stack.records(Topic::Events).await;
    // Every other one is told once more, behind later ones, as by a service that died.
    let log = stack.log().await;
    for entry in entries.iter().step_by(2) {
        log.append(Topic::Events, entry.partition, entry.record.clone()).await.unwrap();
    }
    let mut known = HashSet::new();
    let first = entries.iter().filter(|entry| known.insert(header(&entry.record, "ce_id")));
    let attributes = ["ce_type", "ce_subject", "ce_sequence", "ce_id"];
    let line = |entry: &Entry| attributes.map(|name| header(&entry.record, name)).join(" ");
    let expected = by_subject(first.map(line));
    // The recordings and the case.
    assert_eq!(expected.len(), 5);

    let example = |program: &mut Command, file: &str, properties: &str| {
        program.arg(root().join("services/docs/examples").join(file));
        program.args([stack.kafka.brokers.clone(), stack.kafka.topic(Topic::Events)]);
        // A cluster of one's own may have TLS and SASL, which each client names otherwise.
        let properties = std::env::var(format!("CASELOCK_TEST_KAFKA_{properties}")).unwrap_or_default();
        program.args(properties.split_terminator(','));
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        by_subject(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned))
    };
    assert_eq!(example(&mut Command::new(python), "consumer.py", "PROPERTIES"), expected);
    let java = example(Command::new("java").args(["-cp", &format!("{libs}/*")]), "Consumer.java", "JAVA_PROPERTIES");
    assert_eq!(java, expected);
}

/// The lines of each subject, in their order.
fn by_subject(lines: impl Iterator<Item = String>) -> BTreeMap<String, Vec<String>> {
    let mut subjects: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines {
        subjects.entry(line.split(' ').nth(1).unwrap().to_owned()).or_default().push(line);
    }
    subjects
}

/// A stack with its registry.
async fn start() -> (Stack, Program) {
    let stack = Stack::start(Kind::Distributed, &[]).await;
    let registry = stack.start_registry().await.unwrap();
    (stack, registry)
}

fn ids(run: &Run) -> Vec<RecordingId> {
    run.of_kind("stored").map(|event| event["recording_id"].as_str().unwrap().parse().unwrap()).collect()
}

/// The life of a case, and of a recording that is bound to it, about which the registry has everything to tell that it tells
/// here: no notice was given, its deadline is extended, and it is held for the case.
fn live(stack: &Stack, number: &str) -> RecordingId {
    let footage = Footage::new().random("bound", 4000);
    let run = Uploader::new(stack).upload(footage.path(), &["--set", "matter=penalty"]);
    run.expect_stored(1);
    let id = ids(&run)[0];
    let name = id.to_string();
    let case = |who: &str, arguments: &[&str]| {
        Uploader::ask(stack, who, &[&["case"], arguments, &["--bureau", "demo", number]].concat()).answer();
    };
    let demo = |arguments: &[&str]| case("demo", arguments);
    demo(&["open", "--cause", "无证行医"]);
    demo(&["amend", "--party", "某诊所", "--full-recording-required", "yes"]);
    Uploader::ask(stack, "demo", &["case", "bind", number, &name]).answer();
    demo(&["note", "--reason", "设备故障", "--author", "张三", "--reviewer", "王五"]);
    case("operator-archivist", &["close", "--class", "10y", "--on", "2026-03-31"]);
    demo(&["reopen", "--reason", "申诉"]);
    let extended = ["--until", "2026-12-31", "--approver", "赵六", "--reason", "网络故障"];
    Uploader::ask(stack, "demo", &[&["deadlines", "extend", &name], &extended[..]].concat()).answer();
    id
}

/// Waits until the registry has told something of everything.
fn wait_told(stack: &Stack) {
    wait_until("events of the registry", || {
        let entries = block_in_place(|| Handle::current().block_on(stack.records(Topic::Events)));
        let told: HashSet<_> = entries.iter().map(|entry| header(&entry.record, "ce_type")).collect();
        TOLD.iter().all(|kind| told.contains(*kind))
    });
}

/// The documents whose keys begin so.
async fn documents(store: &dyn Store, prefix: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for key in store.keys(prefix, None).await.unwrap().keys.iter().filter(|key| key.ends_with(".json")) {
        let (_, bytes) = read_document(store, key, 1 << 20).await.unwrap().unwrap();
        found.push(serde_json::from_slice(&bytes).unwrap());
    }
    found
}

/// What does not come to be here: a case that is kept for ever, and the disposal of a recording that is one of these documents.
fn rare_documents(documents: &[Value]) -> Vec<Value> {
    let manifest: Manifest =
        documents.iter().find_map(|document| serde_json::from_value(document.clone()).ok()).unwrap();
    let at = Timestamp::from_second(1_770_000_000).unwrap();
    let by = "spiffe://caselock.test/operator/archivist".to_owned();
    let closed = CaseEntry {
        media_type: case::MEDIA_TYPE.into(),
        bureau: manifest.bureau.clone(),
        number: "rare".to_owned().try_into().unwrap(),
        seq: 2,
        at,
        by: by.clone(),
        change: CaseChange::Closed {
            class: "permanent".into(),
            on: "2026-03-31".parse().unwrap(),
            kept: Kept::Permanently,
            rule: "for ever".into(),
        },
    };
    let disposal = Disposal {
        media_type: disposal::MEDIA_TYPE.into(),
        bureau: manifest.bureau,
        recording_id: manifest.recording_id,
        generation: manifest.generation,
        version: manifest.version.clone(),
        size: manifest.size,
        blake3: manifest.blake3,
        metadata: manifest.metadata,
        stored_at: manifest.retention.stored_at,
        locked_until: manifest.retention.locked_until,
        because: "closed_case".into(),
        case: Some("rare".into()),
        at,
        by,
        reason: "到期".into(),
        objects: vec![Removed { object_key: manifest.object_key, version: manifest.version }],
    };
    vec![serde_json::to_value(closed).unwrap(), serde_json::to_value(disposal).unwrap()]
}
