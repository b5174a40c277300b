//! What every adapter of [`Store`] promises, as tests. An adapter runs them with [`contract_tests!`](crate::contract_tests).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Crc64Nvme, Created, ErrorKind, KeyPage, NewObject, Part, Store, StoreError, create, create_from, oldest_version,
    probe::probe,
};

/// Makes a test of each part of the contract. `$fresh` is an async expression that gives an `Arc<dyn Store>` on the
/// system's clock, and a prefix for keys that is the test's own.
#[macro_export]
macro_rules! contract_tests {
    ($fresh:expr) => {
        $crate::contract_tests!($fresh;
            a_multipart_object_is_its_parts,
            parts_may_come_again_and_in_any_order,
            what_is_missing_is_not_completed,
            an_aborted_upload_cannot_be_completed,
            nothing_is_overwritten,
            a_file_is_created_in_parts_and_once,
            wrong_checksums_are_refused,
            a_locked_version_resists,
            a_hold_resists_until_it_is_lifted,
            a_lock_that_ran_out_lets_go,
            unknown_versions_are_not_found,
            keys_are_listed_in_order_and_by_page,
            more_keys_than_a_page_holds_are_all_listed,
            it_passes_the_probe
        );
    };
    ($fresh:expr; $($name:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, prefix, _keep) = $fresh.await;
                $crate::contract::$name(store, prefix).await;
            }
        )+
    };
}

/// S3's least part.
const PART: u32 = 5 << 20;

fn new(lock_seconds: i64) -> NewObject {
    let until = Timestamp::now() + SignedDuration::from_secs(lock_seconds);
    let lock_until = caselock_domain::time::whole_seconds(until);
    NewObject { content_type: "application/octet-stream".into(), part_size: PART, lock_until }
}

fn part_bytes(seed: u8, length: usize) -> Bytes {
    (0..length).map(|i| (i as u8).wrapping_mul(seed | 1).wrapping_add((i >> 8) as u8)).collect::<Vec<_>>().into()
}

async fn put_part(store: &dyn Store, key: &str, id: &str, number: u32, bytes: &Bytes) -> Part {
    let crc = Crc64Nvme::of(bytes);
    let etag = store.put_part(key, id, number, bytes.clone(), crc).await.unwrap();
    Part { number, etag, crc, length: bytes.len() as u32 }
}

async fn put(store: &dyn Store, key: &str, lock_seconds: i64) -> String {
    let body = Bytes::from_static(b"footage");
    store.put(key, &new(lock_seconds), body.clone(), Crc64Nvme::of(&body)).await.unwrap()
}

async fn read(store: &dyn Store, key: &str, version: &str, from: u64) -> Bytes {
    let stream = store.read(key, version, from).await.unwrap();
    let bytes: BytesMut = stream.try_collect::<Vec<_>>().await.unwrap().into_iter().flatten().collect();
    bytes.freeze()
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ErrorKind {
    result.unwrap_err().kind
}

pub async fn a_multipart_object_is_its_parts(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    assert_eq!(store.versions(&key).await.unwrap(), []);
    let new = new(60);
    let id = store.begin(&key, &new).await.unwrap();
    assert_eq!(oldest_version(store, &key).await.unwrap(), None);
    let (a, b) = (part_bytes(3, PART as usize), part_bytes(5, 1));
    let parts = [put_part(store, &key, &id, 1, &a).await, put_part(store, &key, &id, 2, &b).await];
    let version = store.complete(&key, &id, &parts).await.unwrap();
    let versions = store.versions(&key).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!((&versions[0].id, versions[0].size), (&version, u64::from(PART) + 1));
    let whole = [&a[..], &b[..]].concat();
    assert!(read(store, &key, &version, 0).await == whole, "other bytes came back");
    assert!(read(store, &key, &version, u64::from(PART) - 3).await == whole[PART as usize - 3..]);
    if let Some(crc) = store.checksum(&key, &version).await.unwrap() {
        assert_eq!(crc, Crc64Nvme::of(&whole));
    }
    let until = whole_lock(store, &key, &version, &new).await;
    assert_eq!(until, Some(new.lock_until));
}

/// A store may ignore the lock at creation (Ceph does); then it is set by version id.
async fn whole_lock(store: &dyn Store, key: &str, version: &str, new: &NewObject) -> Option<Timestamp> {
    if store.lock(key, version).await.unwrap().until.is_none() {
        store.set_retention(key, version, new.lock_until).await.unwrap();
    }
    store.lock(key, version).await.unwrap().until
}

pub async fn parts_may_come_again_and_in_any_order(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let id = store.begin(&key, &new(60)).await.unwrap();
    let (a, b) = (part_bytes(3, PART as usize), part_bytes(5, 100));
    let second = put_part(store, &key, &id, 2, &b).await;
    put_part(store, &key, &id, 1, &part_bytes(9, PART as usize)).await;
    let first = put_part(store, &key, &id, 1, &a).await;
    assert_eq!(put_part(store, &key, &id, 1, &a).await, first);
    let version = store.complete(&key, &id, &[first, second]).await.unwrap();
    assert!(read(store, &key, &version, 0).await == [&a[..], &b[..]].concat());
}

pub async fn what_is_missing_is_not_completed(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let id = store.begin(&key, &new(60)).await.unwrap();
    let a = part_bytes(3, PART as usize);
    let first = put_part(store, &key, &id, 1, &a).await;
    let missing = Part { number: 2, ..first.clone() };
    let result = store.complete(&key, &id, &[first.clone(), missing]).await;
    assert_eq!(kind(result), ErrorKind::MultipartGone);
    let replaced = first.clone();
    put_part(store, &key, &id, 1, &part_bytes(9, PART as usize)).await;
    assert_eq!(kind(store.complete(&key, &id, &[replaced]).await), ErrorKind::MultipartGone);
    assert_eq!(oldest_version(store, &key).await.unwrap(), None);
    store.abort(&key, &id).await.unwrap();
}

pub async fn an_aborted_upload_cannot_be_completed(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let id = store.begin(&key, &new(60)).await.unwrap();
    let part = put_part(store, &key, &id, 1, &part_bytes(3, 1000)).await;
    store.abort(&key, &id).await.unwrap();
    store.abort(&key, &id).await.unwrap();
    assert_eq!(kind(store.complete(&key, &id, &[part]).await), ErrorKind::MultipartGone);
    let late = part_bytes(3, 1000);
    let result = store.put_part(&key, &id, 1, late.clone(), Crc64Nvme::of(&late)).await;
    assert_eq!(kind(result), ErrorKind::MultipartGone);
    assert_eq!(store.versions(&key).await.unwrap(), []);
}

pub async fn nothing_is_overwritten(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let id = store.begin(&key, &new(60)).await.unwrap();
    let part = put_part(store, &key, &id, 1, &part_bytes(3, 1000)).await;
    let version = put(store, &key, 60).await;
    assert_eq!(kind(store.complete(&key, &id, &[part]).await), ErrorKind::AlreadyExists);
    let body = Bytes::from_static(b"other");
    let again = store.put(&key, &new(60), body.clone(), Crc64Nvme::of(&body)).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    assert_eq!(create(store, &key, &new(60), body.clone()).await.unwrap(), Created::Existing(version.clone()));
    assert_eq!(store.versions(&key).await.unwrap().len(), 1);
    assert_eq!(&read(store, &key, &version, 0).await[..], b"footage");
    store.abort(&key, &id).await.unwrap();
    let fresh = create(store, &format!("{prefix}/fresh"), &new(60), body).await.unwrap();
    assert!(matches!(fresh, Created::New(_)));
}

pub async fn a_file_is_created_in_parts_and_once(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/proxy.mp4"), &*store);
    let bytes = part_bytes(3, crate::PART as usize + 77);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let file = Arc::new(file);
    let Created::New(version) = create_from(store, &key, &new(60), file.clone()).await.unwrap() else {
        panic!("it was there already");
    };
    assert!(read(store, &key, &version, 0).await == bytes);
    assert_eq!(create_from(store, &key, &new(60), file).await.unwrap(), Created::Existing(version));
}

pub async fn wrong_checksums_are_refused(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let bytes = part_bytes(3, 1000);
    let wrong = Crc64Nvme(Crc64Nvme::of(&bytes).0 ^ 1);
    let id = store.begin(&key, &new(60)).await.unwrap();
    let part = store.put_part(&key, &id, 1, bytes.clone(), wrong).await;
    assert_eq!(kind(part), ErrorKind::ChecksumMismatch);
    assert_eq!(kind(store.put(&key, &new(60), bytes, wrong).await), ErrorKind::ChecksumMismatch);
    assert_eq!(store.versions(&key).await.unwrap(), []);
    store.abort(&key, &id).await.unwrap();
}

pub async fn a_locked_version_resists(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let version = put(store, &key, 120).await;
    let until = new(180).lock_until;
    store.set_retention(&key, &version, until).await.unwrap();
    assert_eq!(store.lock(&key, &version).await.unwrap().until, Some(until));
    for bypass in [false, true] {
        assert_eq!(kind(store.delete_version(&key, &version, bypass).await), ErrorKind::Locked);
    }
    let earlier = until - SignedDuration::from_secs(60);
    assert_eq!(kind(store.set_retention(&key, &version, earlier).await), ErrorKind::Locked);
    assert_eq!(store.lock(&key, &version).await.unwrap().until, Some(until));
    assert_eq!(&read(store, &key, &version, 0).await[..], b"footage");
}

pub async fn a_hold_resists_until_it_is_lifted(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let version = put(store, &key, 2).await;
    store.set_hold(&key, &version, true).await.unwrap();
    assert!(store.lock(&key, &version).await.unwrap().hold);
    run_out(store, &key, &version).await;
    for bypass in [false, true] {
        assert_eq!(kind(store.delete_version(&key, &version, bypass).await), ErrorKind::Locked);
    }
    store.set_hold(&key, &version, false).await.unwrap();
    assert!(!store.lock(&key, &version).await.unwrap().hold);
    store.delete_version(&key, &version, false).await.unwrap();
    assert_eq!(oldest_version(store, &key).await.unwrap(), None);
}

pub async fn a_lock_that_ran_out_lets_go(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let version = put(store, &key, 2).await;
    assert_eq!(kind(store.delete_version(&key, &version, false).await), ErrorKind::Locked);
    run_out(store, &key, &version).await;
    store.delete_version(&key, &version, false).await.unwrap();
    assert_eq!(oldest_version(store, &key).await.unwrap(), None);
}

/// Waits until the store's own clock is past the lock.
async fn run_out(store: &dyn Store, key: &str, version: &str) {
    let until = store.lock(key, version).await.unwrap().until.unwrap();
    while store.now().await.unwrap() <= until + SignedDuration::from_secs(1) {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

pub async fn unknown_versions_are_not_found(store: Arc<dyn Store>, prefix: String) {
    let (key, store) = (format!("{prefix}/original"), &*store);
    let version = put(store, &key, 2).await;
    let other = format!("{prefix}/other");
    assert_eq!(kind(store.lock(&other, &version).await), ErrorKind::NotFound);
    assert_eq!(store.read(&other, &version, 0).await.err().unwrap().kind, ErrorKind::NotFound);
}

pub async fn keys_are_listed_in_order_and_by_page(store: Arc<dyn Store>, prefix: String) {
    let store = &*store;
    // By their bytes: a slash comes after a hyphen and a dot.
    let names = ["a-1/original", "a.json", "a/1/original", "a/10/original", "a/2/manifest.json", "ab", "b"];
    for name in names {
        put(store, &format!("{prefix}/{name}"), 2).await;
    }
    let id = store.begin(&format!("{prefix}/a/3/original"), &new(60)).await.unwrap();
    let own = |names: &[&str]| names.iter().map(|name| format!("{prefix}/{name}")).collect::<Vec<_>>();
    let all = format!("{prefix}/");
    assert_eq!(store.keys(&all, None).await.unwrap().keys, own(&names));
    assert_eq!(store.keys(&all, Some(&own(&names)[0])).await.unwrap().keys, own(&names[1..]));
    let below = format!("{prefix}/a/");
    let page = |keys| KeyPage { keys, more: false };
    let KeyPage { keys, more } = store.keys(&below, None).await.unwrap();
    assert!(!more);
    assert_eq!(keys, own(&["a/1/original", "a/10/original", "a/2/manifest.json"]));
    assert_eq!(store.keys(&below, Some(&keys[1])).await.unwrap(), page(own(&["a/2/manifest.json"])));
    assert_eq!(store.keys(&below, Some(&keys[2])).await.unwrap(), page(own(&[])));
    assert_eq!(store.keys(&format!("{prefix}/a"), Some(&keys[2])).await.unwrap(), page(own(&["ab"])));
    assert_eq!(store.keys(&format!("{prefix}/none/"), None).await.unwrap(), page(own(&[])));
    store.abort(&format!("{prefix}/a/3/original"), &id).await.unwrap();
}

pub async fn more_keys_than_a_page_holds_are_all_listed(store: Arc<dyn Store>, prefix: String) {
    let store = &*store;
    let expected: Vec<_> = (0..1_003).map(|n| format!("{prefix}/{n:04}")).collect();
    let puts = expected.iter().map(|key| put(store, key, 2));
    futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    let mut keys = Vec::<String>::new();
    loop {
        let page = store.keys(&format!("{prefix}/"), keys.last().map(String::as_str)).await.unwrap();
        keys.extend(page.keys);
        if !page.more {
            break;
        }
    }
    assert!(keys == expected, "{} keys", keys.len());
}

pub async fn it_passes_the_probe(store: Arc<dyn Store>, prefix: String) {
    let nonce = prefix.replace('/', "-");
    for round in 0..2 {
        probe(&*store, Timestamp::now(), &format!("{nonce}-{round}")).await.unwrap();
    }
    let wrong_clock = Timestamp::now() + SignedDuration::from_secs(90);
    assert!(probe(&*store, wrong_clock, &nonce).await.unwrap_err().to_string().contains("clock"));
}
