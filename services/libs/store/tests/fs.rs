//! The directory store: the contract, and what only a directory has.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use caselock_domain::time::{Clock, Timestamp};
use caselock_store::{Crc64Nvme, ErrorKind, NewObject, Part, Store, fs::FsStore};
use tempfile::TempDir;

fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

async fn fresh() -> (Arc<dyn Store>, String, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = FsStore::open(dir.path().to_owned(), system_clock()).unwrap();
    (store, "v1/test".into(), dir)
}

caselock_store::contract_tests!(fresh());

fn new() -> NewObject {
    NewObject { content_type: "text/plain".into(), part_size: 16, lock_until: "2100-01-01T00:00:00Z".parse().unwrap() }
}

#[tokio::test]
async fn no_key_leads_out_of_the_directory() {
    let (store, _, _dir) = fresh().await;
    for key in ["../x", "/etc/passwd", "v1/../../x", "", ".caselock/lock", "v1/.caselock"] {
        let body = Bytes::from_static(b"x");
        let put = store.put(key, &new(), body.clone(), Crc64Nvme::of(&body)).await;
        assert_eq!(put.unwrap_err().kind, ErrorKind::Invalid, "{key}");
    }
}

#[tokio::test]
async fn completing_again_after_a_crash_finds_the_same_object() {
    let (store, _, dir) = fresh().await;
    let id = store.begin("v1/k", &new()).await.unwrap();
    let bytes = Bytes::from_static(b"footage");
    let crc = Crc64Nvme::of(&bytes);
    let etag = store.put_part("v1/k", &id, 1, bytes, crc).await.unwrap();
    let parts = [Part { number: 1, etag, crc, length: 7 }];
    // As if the process had died between linking the object and removing the upload.
    let kept = dir.path().join("kept");
    let upload = dir.path().join(".caselock/multipart").join(&id);
    std::fs::create_dir(&kept).unwrap();
    for file in std::fs::read_dir(&upload).unwrap() {
        let file = file.unwrap();
        std::fs::hard_link(file.path(), kept.join(file.file_name())).unwrap();
    }
    let version = store.complete("v1/k", &id, &parts).await.unwrap();
    std::fs::rename(&kept, &upload).unwrap();
    assert_eq!(store.complete("v1/k", &id, &parts).await.unwrap(), version);
    assert!(!upload.exists());
    assert_eq!(store.versions("v1/k").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let (_store, _, dir) = fresh().await;
    assert!(FsStore::open(dir.path().to_owned(), system_clock()).is_err());
}
