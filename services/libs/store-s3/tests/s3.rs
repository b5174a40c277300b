//! The S3 store against a real server: the one named by `CASELOCK_TEST_S3_*`. Without one these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{process::Command, sync::Arc};

use caselock_store::{Created, NewObject, Store, create, read_document};
use caselock_store_s3::{S3Config, S3Store};

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("CASELOCK_TEST_S3_{name}")).ok()
}

fn config() -> S3Config {
    S3Config {
        bucket: variable("BUCKET").unwrap_or_else(|| "caselock-test".into()),
        prefix: format!("test-{}/", uuid::Uuid::new_v4()),
        region: variable("REGION").unwrap_or_else(|| "us-east-1".into()),
        endpoint: variable("ENDPOINT"),
        ca: variable("CA").map(Into::into),
        access_key: Some(
            variable("ACCESS_KEY").expect("CASELOCK_TEST_S3_ACCESS_KEY names the server to test against").into(),
        ),
        secret_key: variable("SECRET_KEY").map(Into::into),
    }
}

async fn open(config: &S3Config) -> Arc<S3Store> {
    let store = S3Store::open(config).await;
    if variable("BUCKET").is_none() {
        store.create_bucket().await.unwrap();
    }
    store
}

async fn fresh() -> (Arc<dyn Store>, String, ()) {
    (open(&config()).await, format!("v1/test/{}", uuid::Uuid::new_v4()), ())
}

caselock_store::contract_tests!(fresh());

#[tokio::test]
async fn a_bucket_without_object_lock_is_refused_by_name() {
    let config = S3Config { bucket: format!("unlocked-{}", uuid::Uuid::new_v4()), ..config() };
    let store = S3Store::open(&config).await;
    store.create_bucket_without_lock().await.unwrap();
    let error = caselock_store::probe::probe(&*store, jiff::Timestamp::now(), "nonce").await.unwrap_err();
    assert!(error.to_string().contains("object-lock"), "{error}");
}

/// A line that an operator can read, with what the store's own log has it under.
#[tokio::test]
async fn an_error_says_what_the_store_answered() {
    let wrong = S3Config { secret_key: Some("wrong-secret".into()), ..config() };
    let error = S3Store::open(&wrong).await.keys("v1/", None).await.unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("Denied on ") && said.contains("HTTP 403, SignatureDoesNotMatch: "), "{said}");
    assert!(said.contains("(request ") && said.len() < 400 && !said.contains("without id"), "{said}");
    let nobody = S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..config() };
    let error = S3Store::open(&nobody).await.keys("v1/", None).await.unwrap_err();
    let said = error.to_string();
    assert!(error.is_retryable() && said.contains("Connection refused") && said.len() < 400, "{said}");
}

/// A plain DELETE hides a locked object from HEAD and from `If-None-Match` alike: it is looked for behind the marker.
#[tokio::test]
async fn an_object_behind_a_delete_marker_is_still_the_object() {
    let config = config();
    let store = open(&config).await;
    let key = format!("v1/test/{}/original", uuid::Uuid::new_v4());
    let lock_until = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 60).unwrap();
    let new = NewObject { content_type: "text/plain".into(), part_size: 0, lock_until };
    let Created::New(version) = create(&*store, &key, &new, "footage".into()).await.unwrap() else { panic!() };
    let client = caselock_store_s3::connect(&config).await;
    client.delete_object().bucket(&config.bucket).key(format!("{}{key}", config.prefix)).send().await.unwrap();
    let versions = store.versions(&key).await.unwrap();
    assert_eq!(versions.iter().filter(|version| version.is_delete_marker).count(), 1);
    let again = create(&*store, &key, &new, "other".into()).await.unwrap();
    assert_eq!(again, Created::Existing(version.clone()));
    let (found, bytes) = read_document(&*store, &key, 100).await.unwrap().unwrap();
    assert_eq!((found, &bytes[..]), (version, &b"footage"[..]));
    assert_eq!(store.keys(&key, None).await.unwrap().keys, [key]);
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../deploy/s3.sh");

/// Stops the server in a folder, whatever became of the test.
struct Stop<'a>(&'a std::path::Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.0).output();
    }
}

/// Beneath TLS the bytes of objects are not signed, and everything else is as without: all of the above, on a server of its own.
#[test]
fn beneath_tls_everything_holds_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let script = |what: &str| {
        let output = Command::new(SCRIPT).arg(what).arg(dir.path()).env("S3_TLS", "yes").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    script("start");
    let _stopped = Stop(dir.path());
    let server = script("env");
    // Its CA is told by our own setting.
    let own = server.replace("SSL_CERT_FILE", "CASELOCK_TEST_S3_CA");
    let variables = own.lines().filter_map(|line| line.split_once('='));
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", "beneath_tls"])
        .env_remove("CASELOCK_TEST_S3_BUCKET")
        .env_remove("SSL_CERT_FILE")
        .envs(variables)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(server.contains("ENDPOINT=https://") && test.status.success(), "{said}");
    assert!(said.contains("an_object_behind_a_delete_marker_is_still_the_object ... ok"), "{said}");
}
