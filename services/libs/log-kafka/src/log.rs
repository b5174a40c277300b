use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use caselock_log::{Follower, Log, LogError, Member, Offset, Record, Topic};
use rdkafka::{
    TopicPartitionList,
    admin::AdminOptions,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    topic_partition_list,
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc;

use crate::{
    KafkaConfig, certificate,
    error::convert,
    follow, group,
    producer::Producer,
    renewed::Renewed,
    topics::{self, Admin},
};

const ASK: Duration = Duration::from_secs(10);
const QUEUE: usize = 64;

/// The log on Kafka.
pub struct KafkaLog {
    config: KafkaConfig,
    producer: Producer,
    admin: Renewed<Admin>,
    /// Asks about partitions.
    asker: Renewed<BaseConsumer>,
    /// Ask groups' coordinators.
    group_askers: Mutex<HashMap<String, Arc<Renewed<BaseConsumer>>>>,
    partitions: HashMap<Topic, u32>,
}

impl KafkaLog {
    /// Connects, and looks whether each topic is there, with as many partitions as it must have.
    pub async fn open(config: &KafkaConfig) -> Result<Arc<Self>, LogError> {
        let unusable = |e: rdkafka::error::KafkaError| LogError::Settings(e.to_string());
        let asker = asker(config, "caselock-asker").map_err(unusable)?;
        let mut partitions = HashMap::new();
        for topic in Topic::ALL {
            let (asker, name) = (asker.get(), config.topic(topic));
            let found = blocking(topic, 0, move || topics::partitions_of(asker.client(), &name)).await?;
            if found == 0 {
                let problem = format!("{} is not there: it must be made first", config.topic(topic));
                return Err(LogError::Misconfigured { topic, problem });
            }
            let expected = config.partitions(topic);
            if found != expected as usize {
                let problem = format!(
                    "{} has {found} partitions, and must have the {expected} it was made with (kafka.partitions, if that is \
                     not the usual count): a recording's facts would be looked for in the wrong ones",
                    config.topic(topic)
                );
                return Err(LogError::Misconfigured { topic, problem });
            }
            partitions.insert(topic, expected);
        }
        let log = Self {
            producer: Producer::new(config).map_err(unusable)?,
            admin: Renewed::new(config, |config| config.client()?.create()).map_err(unusable)?,
            config: config.clone(),
            asker,
            group_askers: Mutex::default(),
            partitions,
        };
        certificate::observe(config);
        Ok(Arc::new(log))
    }

    fn group_asker(&self, group: &str) -> KafkaResult<Arc<BaseConsumer>> {
        let mut askers = self.group_askers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = askers.get(group) {
            return Ok(asker.get());
        }
        let new = Arc::new(asker(&self.config, group)?);
        askers.insert(group.to_owned(), new.clone());
        Ok(new.get())
    }
}

fn asker(config: &KafkaConfig, group: &str) -> KafkaResult<Renewed<BaseConsumer>> {
    let group = config.group(group);
    Renewed::new(config, move |config| config.consumer()?.set("group.id", &group).create())
}

/// Where a partition ends now, in one request: "the offset of the time -1" is the end ([ListOffsets]).
///
/// [ListOffsets]: https://kafka.apache.org/protocol#The_Messages_ListOffsets
pub fn end<X: ConsumerContext>(
    asker: &BaseConsumer<X>,
    name: &str,
    partition: u32,
    patience: Duration,
) -> KafkaResult<Offset> {
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset(name, partition as i32, topic_partition_list::Offset::End)?;
    let found = asker.offsets_for_times(wanted, patience)?;
    // An attempt that failed may stand before the one that was answered.
    let ends = found.elements().into_iter().filter_map(|element| match (element.error(), element.offset()) {
        (Ok(()), topic_partition_list::Offset::Offset(end)) => Some(end as u64),
        _ => None,
    });
    ends.last().ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::RequestTimedOut))
}

/// Runs a blocking call of librdkafka off the async threads.
async fn blocking<T: Send + 'static>(
    topic: Topic,
    partition: u32,
    call: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> Result<T, LogError> {
    let called = tokio::task::spawn_blocking(call).await.map_err(|e| LogError::Unavailable(e.to_string()))?;
    called.map_err(|e| convert(topic, partition, &e))
}

#[async_trait]
impl Log for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        // Every topic was found at the opening.
        self.partitions.get(&topic).copied().unwrap_or(1)
    }

    fn name(&self, topic: Topic) -> String {
        self.config.topic(topic)
    }

    async fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError> {
        self.producer.append(topic, partition, record).await
    }

    async fn bounds(&self, topic: Topic, partition: u32) -> Result<Range<Offset>, LogError> {
        let (asker, name) = (self.asker.get(), self.config.topic(topic));
        let ask = move || asker.fetch_watermarks(&name, partition as i32, ASK);
        let (start, end) = blocking(topic, partition, ask).await?;
        Ok(start as u64..end as u64)
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<Offset, LogError> {
        let (asker, name) = (self.asker.get(), self.config.topic(topic));
        blocking(topic, partition, move || end(&asker, &name, partition, ASK)).await
    }

    async fn follow(&self, topic: Topic, from: Vec<(u32, Offset)>) -> Result<Follower, LogError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let config = self.config.clone();
        blocking(topic, 0, move || follow::start(&config, topic, &from, sender)).await?;
        Ok(receiver)
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Member, LogError> {
        let (config, group) = (self.config.clone(), group.to_owned());
        blocking(topic, 0, move || group::join(&config, &group, topic)).await
    }

    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<Offset>, LogError> {
        let asker = self.group_asker(group).map_err(|e| convert(topic, partition, &e))?;
        let name = self.config.topic(topic);
        let ask = move || {
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition(&name, partition as i32);
            asker.committed_offsets(wanted, ASK)
        };
        let committed = blocking(topic, partition, ask).await?;
        Ok(committed.elements().first().and_then(|element| match element.offset() {
            topic_partition_list::Offset::Offset(offset) => Some(offset as u64),
            _ => None,
        }))
    }

    async fn delete_before(&self, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        let bounds = self.bounds(topic, partition).await?;
        if offset <= bounds.start {
            return Ok(());
        }
        let mut before = TopicPartitionList::new();
        let end = topic_partition_list::Offset::Offset(offset.min(bounds.end) as i64);
        let fail = |e: &rdkafka::error::KafkaError| convert(topic, partition, e);
        before.add_partition_offset(&self.config.topic(topic), partition as i32, end).map_err(|e| fail(&e))?;
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let deleted = self.admin.get().delete_records(&before, &options).await.map_err(|e| fail(&e))?;
        deleted.elements().first().map_or(Ok(()), |element| element.error().map_err(|e| fail(&e)))
    }

    async fn check(&self, topic: Topic) -> Result<(), LogError> {
        topics::check(&self.admin.get(), &self.config, topic).await
    }
}
