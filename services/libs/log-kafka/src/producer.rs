use std::{sync::Arc, time::Duration};

use caselock_log::{LogError, Offset, Record, Topic};
use rdkafka::{
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};

use crate::{KafkaConfig, error::convert, renewed::Renewed};

/// How long to wait when librdkafka's queue is full. What is queued is bounded by those who append.
const FULL: Duration = Duration::from_millis(5);

/// The idempotent producer, made anew when it has failed for good.
pub struct Producer {
    config: KafkaConfig,
    current: Renewed<FutureProducer>,
}

impl Producer {
    pub fn new(config: &KafkaConfig) -> KafkaResult<Self> {
        Ok(Self { config: config.clone(), current: Renewed::new(config, make)? })
    }

    /// Appends; returns when every in-sync replica has it.
    pub async fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError> {
        let name = self.config.topic(topic);
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(&value[..]) }));
        let producer = self.current.get();
        let delivery = loop {
            let mut message = FutureRecord::<[u8], [u8]>::to(&name)
                .partition(partition as i32)
                .key(&record.key[..])
                .headers(headers.clone());
            message.payload = record.payload.as_deref();
            match producer.send_result(message) {
                Ok(delivery) => break delivery,
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    tokio::time::sleep(FULL).await;
                }
                Err((error, _)) => return Err(self.failed(&producer, topic, partition, &error)),
            }
        };
        // librdkafka has its copy: ours need not wait with it.
        drop(record);
        match delivery.await {
            // A duplicate that the broker had already is told as delivered, but not where.
            Ok(Ok(delivered)) if delivered.offset < 0 => {
                Err(LogError::Unavailable("delivered, but its offset is not known".into()))
            }
            Ok(Ok(delivered)) => Ok(delivered.offset as u64),
            Ok(Err((error, _))) => Err(self.failed(&producer, topic, partition, &error)),
            Err(_) => Err(LogError::Unavailable("the producer was closed".into())),
        }
    }

    fn failed(&self, used: &Arc<FutureProducer>, topic: Topic, partition: u32, error: &KafkaError) -> LogError {
        if let Some((code, reason)) = used.client().fatal_error() {
            tracing::warn!(%code, reason, "the producer failed for good; making a new one");
            self.current.replace(used);
            return LogError::Unavailable(reason);
        }
        convert(topic, partition, error)
    }
}

fn make(config: &KafkaConfig) -> KafkaResult<FutureProducer> {
    config
        .client()?
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("message.max.bytes", "18874368")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("message.timeout.ms", "30000")
        .create()
}
