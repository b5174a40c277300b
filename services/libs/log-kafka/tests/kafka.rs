//! The log on Kafka against a real broker: the one named by `CASELOCK_TEST_KAFKA`. Without one these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use caselock_log::{Followed, Log, LogError, Topic};
use caselock_log_kafka::{KafkaConfig, KafkaLog, Provision, provision};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

fn named() -> (KafkaConfig, u32) {
    let prefix = format!("test-{}.", uuid::Uuid::new_v4());
    let named = KafkaConfig::for_tests(&|name| std::env::var(name).ok(), prefix, 3);
    named.expect("CASELOCK_TEST_KAFKA names the broker to test against")
}

fn config() -> KafkaConfig {
    named().0
}

async fn open(config: &KafkaConfig, settings: Vec<(Topic, String, String)>) -> Arc<KafkaLog> {
    provision(config, &Provision { replication: named().1, settings }).await.unwrap();
    KafkaLog::open(config).await.unwrap()
}

async fn fresh() -> (Arc<dyn Log>, ()) {
    (open(&config(), Vec::new()).await, ())
}

caselock_log::contract_tests!(fresh());

/// A transaction's marker takes an offset, and is no record: a hole at the tail, as compaction leaves them.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_behind_a_hole_is_reached() {
    let config = config();
    let log = open(&config, Vec::new()).await;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.brokers).set("transactional.id", &config.topic_prefix);
    for (name, value) in &config.properties {
        client.set(name, value.to_string());
    }
    let producer: BaseProducer = client.create().unwrap();
    let topic = config.topic(Topic::Uploads);
    let committed = tokio::task::spawn_blocking(move || {
        let patience = Duration::from_secs(60);
        producer.init_transactions(patience).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(&topic).partition(1).key("key").payload("value")).map_err(|(e, _)| e).unwrap();
        producer.commit_transaction(patience).unwrap();
    });
    committed.await.unwrap();
    // A record and a marker, which comes after the commit was answered.
    let end = 2;
    let written = async { while log.bounds(Topic::Uploads, 1).await.unwrap().end < end {} };
    tokio::time::timeout(Duration::from_secs(180), written).await.expect("the marker");
    let mut follower = log.follow(Topic::Uploads, vec![(1, 0)]).await.unwrap();
    let reach = async {
        let mut records = 0;
        loop {
            match follower.recv().await.unwrap().unwrap() {
                Followed::Entry(_) => records += 1,
                Followed::End { position, .. } if position >= end => return records,
                Followed::End { .. } => {}
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(180), reach).await.expect("the end is reached"), 1);
}

#[tokio::test]
async fn another_count_of_partitions_is_refused() {
    let config = config();
    drop(open(&config, Vec::new()).await);
    let Err(error) = KafkaLog::open(&KafkaConfig { partitions: Some(4), ..config }).await else { panic!() };
    assert!(error.to_string().contains("has 3 partitions, and must have the 4"), "{error}");
}

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
    // More than one node, but one replica is enough.
    let config = config();
    drop(open(&config, vec![(Topic::Footage, "min.insync.replicas".into(), "1".into())]).await);
    let log = KafkaLog::open(&KafkaConfig { single_node: false, ..config }).await.unwrap();
    let error = log.check(Topic::Footage).await.unwrap_err();
    assert!(error.to_string().contains("min.insync.replicas"), "{error}");
}
