//! From a folder to locked, receipted, viewable footage, on both stacks.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path};

use caselock_domain::{manifest::Manifest, receipt::Receipt};
use caselock_e2e::{Footage, Kind, Stack, Uploader, on_both_stacks, wait_until};
use caselock_store::{ErrorKind, Store, oldest_version, read_document};
use serde_json::Value;

on_both_stacks!(a_folder_becomes_locked_receipted_viewable_footage);

const SEGMENT: u64 = 8 << 20;

async fn a_folder_becomes_locked_receipted_viewable_footage(kind: Kind) {
    let footage = Footage::new()
        .with_demo()
        .random("一个字节.bin", 1)
        .random("exactly one segment.bin", SEGMENT)
        .random("one byte more.bin", SEGMENT + 1)
        .random("many segments.bin", 12 * SEGMENT + 4321);
    let mut stack = Stack::start(kind, &[]).await;
    let uploader = Uploader::new(&stack);
    let files = footage.files();
    let run = uploader.upload(footage.path(), &[]);
    run.expect_stored(files.len());
    assert!(run.of_kind("stored").all(|event| event["was_there"] == false));

    // Again, from the journal; and again without one, from the gateway: nothing is sent.
    for uploader in [&uploader, &Uploader::new(&stack)] {
        let again = uploader.upload(footage.path(), &[]);
        again.expect_stored(files.len());
        assert!(again.of_kind("stored").all(|event| event["was_there"] == true));
        assert_eq!(again.bytes_held(), 0);
    }

    let stored: BTreeMap<String, Value> =
        run.of_kind("stored").map(|event| (event["file"].as_str().unwrap().to_owned(), event.clone())).collect();
    if kind == Kind::Distributed {
        let store = stack.store().await;
        wait_for_derivatives(&*store, &stored).await;
    } else {
        for event in stored.values() {
            let folder = format!("store/v1/demo/recordings/{}/0", event["recording_id"].as_str().unwrap());
            wait_until("derived.json", 120, || stack.data().join(&folder).join("derived.json").exists());
        }
    }
    stack.stop();
    let store = stack.store().await;
    for path in &files {
        check(&stack, &*store, path, &stored[path.canonicalize().unwrap().to_str().unwrap()]).await;
    }
}

async fn wait_for_derivatives(store: &dyn Store, stored: &BTreeMap<String, Value>) {
    for event in stored.values() {
        let key = format!("v1/demo/recordings/{}/0/derived.json", event["recording_id"].as_str().unwrap());
        let mut turns = 0;
        while oldest_version(store, &key).await.unwrap().is_none() {
            turns += 1;
            assert!(turns < 600, "waited for {key}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}

/// One file: its digest, its receipt, its object and lock, its derivatives.
async fn check(stack: &Stack, store: &dyn Store, path: &Path, event: &Value) {
    let bytes = std::fs::read(path).unwrap();
    let blake3 = blake3::hash(&bytes).to_hex();
    assert_eq!(event["blake3"], blake3.as_str(), "{}", path.display());

    let envelope = std::fs::read(event["receipt"].as_str().unwrap()).unwrap();
    let receipt = Receipt::try_from(&serde_json::from_slice(&envelope).unwrap()).unwrap();
    let payload = stack.keys().verify(&receipt).unwrap();
    assert_eq!((payload.size, payload.blake3.to_hex().as_str()), (bytes.len() as u64, blake3.as_str()));

    let folder = format!("v1/demo/recordings/{}/0", payload.recording_id);
    assert_eq!(payload.object_key, format!("{folder}/original"));
    let versions = store.versions(&payload.object_key).await.unwrap();
    assert_eq!(versions.len(), 1, "one object");
    assert_eq!(versions[0].id, payload.version);
    let (_, original) = read_document(store, &payload.object_key, bytes.len()).await.unwrap().unwrap();
    assert!(original == bytes, "{} came back changed", path.display());

    let (_, manifest) = read_document(store, &format!("{folder}/manifest.json"), 1 << 20).await.unwrap().unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(Receipt::try_from(&manifest.receipt).unwrap(), receipt);

    let (_, derived) = read_document(store, &format!("{folder}/derived.json"), 1 << 20).await.unwrap().unwrap();
    let derived: Value = serde_json::from_slice(&derived).unwrap();
    assert_eq!(derived["failure"], Value::Null, "{}", path.display());
    let names: Vec<_> =
        derived["derivatives"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    let expected: &[&str] = match path.extension().unwrap().to_str().unwrap() {
        "mp4" | "ts" => &["poster", "contact-sheet", "proxy"],
        "mp3" => &["waveform", "proxy"],
        "jpg" | "png" => &["preview"],
        _ => &[],
    };
    assert_eq!(names, expected, "{}", path.display());

    let mut keys = vec![payload.object_key.clone(), format!("{folder}/manifest.json")];
    keys.extend(["verification.json", "derived.json"].map(|name| format!("{folder}/{name}")));
    keys.extend(
        derived["derivatives"].as_array().unwrap().iter().map(|d| d["object_key"].as_str().unwrap().to_owned()),
    );
    for key in keys {
        let version = oldest_version(store, &key).await.unwrap().unwrap();
        let lock = store.lock(&key, &version.id).await.unwrap();
        assert_eq!(lock.until, Some(payload.locked_until), "{key}");
        for bypass in [false, true] {
            let deleted = store.delete_version(&key, &version.id, bypass).await;
            assert_eq!(deleted.unwrap_err().kind, ErrorKind::Locked, "{key}");
        }
    }
}
