//! The S3 store against a real server: the one named by `CASELOCK_TEST_S3_*`. Without one these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use caselock_store::Store;
use caselock_store_s3::{S3Config, S3Store};

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("CASELOCK_TEST_S3_{name}")).ok()
}

fn config() -> S3Config {
    S3Config {
        bucket: variable("BUCKET").unwrap_or_else(|| "caselock-test".into()),
        region: variable("REGION").unwrap_or_else(|| "us-east-1".into()),
        endpoint: variable("ENDPOINT"),
        access_key: Some(variable("ACCESS_KEY").expect("CASELOCK_TEST_S3_ACCESS_KEY names the server to test against")),
        secret_key: variable("SECRET_KEY"),
    }
}

async fn store() -> Arc<S3Store> {
    let config = config();
    let store = S3Store::open(&config).await;
    if variable("BUCKET").is_none() {
        store.create_bucket().await.unwrap();
    }
    store
}

async fn fresh() -> (Arc<dyn Store>, String, ()) {
    (store().await, format!("v1/test/{}", uuid::Uuid::new_v4()), ())
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
