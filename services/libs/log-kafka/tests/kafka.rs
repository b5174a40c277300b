//! The log on Kafka against a real broker: the one named by `CASELOCK_TEST_KAFKA`. Without one these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use caselock_log::{Log, LogError, Topic};
use caselock_log_kafka::{KafkaConfig, KafkaLog, Provision, provision};

fn config() -> KafkaConfig {
    KafkaConfig {
        brokers: std::env::var("CASELOCK_TEST_KAFKA").expect("CASELOCK_TEST_KAFKA names the broker to test against"),
        topic_prefix: format!("test-{}.", uuid::Uuid::new_v4()),
        single_node: true,
        ..KafkaConfig::default()
    }
}

async fn open(config: &KafkaConfig, settings: Vec<(Topic, String, String)>) -> Arc<KafkaLog> {
    provision(config, &Provision { partitions: Some(3), replication: 1, settings }).await.unwrap();
    KafkaLog::open(config).await.unwrap()
}

async fn fresh() -> (Arc<dyn Log>, ()) {
    (open(&config(), Vec::new()).await, ())
}

caselock_log::contract_tests!(fresh());

#[tokio::test]
async fn a_missing_topic_is_named() {
    let Err(LogError::Misconfigured { topic, problem }) = KafkaLog::open(&config()).await else { panic!() };
    assert_eq!(topic, Topic::Footage);
    assert!(problem.contains("caselock.footage.v1"), "{problem}");
}

#[tokio::test]
async fn settings_that_would_lose_footage_are_refused_by_name() {
    for (topic, key, value) in [
        (Topic::Footage, "retention.ms", "604800000"),
        (Topic::Footage, "retention.bytes", "1000000000"),
        (Topic::Footage, "flush.messages", "10000"),
        (Topic::Footage, "max.message.bytes", "1048588"),
        (Topic::Uploads, "cleanup.policy", "delete"),
        (Topic::Events, "retention.ms", "1000"),
        (Topic::Uploads, "unclean.leader.election.enable", "true"),
    ] {
        let log = open(&config(), vec![(topic, key.into(), value.into())]).await;
        let Err(LogError::Misconfigured { problem, .. }) = log.check(topic).await else { panic!("{key}") };
        assert!(problem.starts_with(key) && problem.contains(value), "{problem}");
    }
    // More than one node, but one replica.
    let config = config();
    let log = open(&config, Vec::new()).await;
    drop(log);
    let log = KafkaLog::open(&KafkaConfig { single_node: false, ..config }).await.unwrap();
    let error = log.check(Topic::Footage).await.unwrap_err();
    assert!(error.to_string().contains("min.insync.replicas"), "{error}");
}
