//! The topics: how they are made, and whether they are as they must be.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use caselock_log::{Cleanup, LogError, Topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::{Client, ClientContext, DefaultClientContext},
    error::KafkaResult,
    types::RDKafkaErrorCode,
};

use crate::{KafkaConfig, error::convert};

const ASK: Duration = Duration::from_secs(15);
/// How often it is looked whether a topic that was made is there.
const LOOK: Duration = Duration::from_millis(50);
/// The largest record: a segment of 16 MiB and its headers.
const RECORD: u64 = 17 << 20;

pub type Admin = AdminClient<DefaultClientContext>;

/// How topics are to be made.
#[derive(Debug, Clone)]
pub struct Provision {
    /// Replicas of each partition.
    pub replication: u32,
    /// Further settings, by topic.
    pub settings: Vec<(Topic, String, String)>,
}

/// Makes the topics that are not there, and returns when the broker that answers knows them: one takes a moment to learn what the
/// controller has made. Those that are there stay as they are: `check` judges them.
pub async fn provision(config: &KafkaConfig, how: &Provision) -> Result<(), LogError> {
    let unavailable = |e: rdkafka::error::KafkaError| LogError::Unavailable(e.to_string());
    let admin: Admin = config.client().and_then(|client| client.create()).map_err(unavailable)?;
    for topic in Topic::ALL {
        let name = config.topic(topic);
        let settings: Vec<_> = settings(topic, config.single_node)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .chain(how.settings.iter().filter(|(t, ..)| *t == topic).map(|(_, k, v)| (k.clone(), v.clone())))
            .collect();
        let new =
            NewTopic::new(&name, config.partitions(topic) as i32, TopicReplication::Fixed(how.replication as i32));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        let created = admin.create_topics([&new], &options).await.map_err(unavailable)?;
        for result in created {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(LogError::Misconfigured { topic, problem: format!("not made: {code}") }),
            }
        }
    }
    let names = Topic::ALL.map(|topic| config.topic(topic));
    let waited = tokio::task::spawn_blocking(move || wait_for(&admin, &names)).await;
    waited.map_err(|e| LogError::Unavailable(e.to_string()))?
}

/// How many partitions a topic has, as the broker that answers knows it: none where the topic is not there.
pub fn partitions_of<C: ClientContext>(client: &Client<C>, topic: &str) -> KafkaResult<usize> {
    let metadata = client.fetch_metadata(Some(topic), ASK)?;
    Ok(metadata.topics().first().filter(|t| t.error().is_none()).map_or(0, |t| t.partitions().len()))
}

fn wait_for(admin: &Admin, topics: &[String]) -> Result<(), LogError> {
    let give_up = Instant::now() + ASK;
    for topic in topics {
        while !partitions_of(admin.inner(), topic).is_ok_and(|there| there > 0) {
            if Instant::now() > give_up {
                return Err(LogError::Unavailable(format!("{topic} was made, and is not there after {ASK:?}")));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// The least replicas that a partition of a topic has.
pub async fn replicas(config: &KafkaConfig, topic: Topic) -> Result<u32, LogError> {
    let unavailable = |e: rdkafka::error::KafkaError| LogError::Unavailable(e.to_string());
    let admin: Admin = config.client().and_then(|client| client.create()).map_err(unavailable)?;
    let name = config.topic(topic);
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&name), ASK)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.replicas().len()).min().unwrap_or(0) as u32)
    });
    asked.await.map_err(|e| LogError::Unavailable(e.to_string()))?.map_err(|e| convert(topic, 0, &e))
}

/// What a topic is made with, and must have.
fn settings(topic: Topic, single_node: bool) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", if topic.cleanup() == Cleanup::Compact { "compact" } else { "delete" }.to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("min.insync.replicas", if single_node { "1" } else { "2" }.to_owned()),
    ];
    if topic.cleanup() != Cleanup::Compact {
        settings.push(("retention.ms", "-1".to_owned()));
        settings.push(("retention.bytes", "-1".to_owned()));
    }
    if topic == Topic::Footage {
        settings.push(("max.message.bytes", RECORD.to_string()));
    }
    // Kafka acknowledges before it syncs, unless told so.
    if matches!(topic, Topic::Footage | Topic::Uploads | Topic::Events) {
        settings.push(("flush.messages", "1".to_owned()));
    }
    settings
}

/// Whether a topic has every setting that the promises rest on.
pub async fn check(admin: &Admin, config: &KafkaConfig, topic: Topic) -> Result<(), LogError> {
    let name = config.topic(topic);
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(&name)], &options).await;
    let described = described.map_err(|e| convert(topic, 0, &e))?;
    let missing = |what: String| LogError::Misconfigured { topic, problem: what };
    let resource = match described.into_iter().next() {
        Some(Ok(resource)) => resource,
        Some(Err(code)) => return Err(missing(format!("its settings can't be read: {code}"))),
        None => return Err(missing("its settings can't be read".into())),
    };
    let there: HashMap<_, _> = resource.entries.into_iter().map(|e| (e.name, e.value.unwrap_or_default())).collect();
    for (key, wanted) in settings(topic, config.single_node) {
        let found = there.get(key).map_or("", String::as_str);
        let at_least = matches!(key, "max.message.bytes" | "min.insync.replicas");
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let fits = if at_least { number(found) >= number(&wanted) } else { found == wanted };
        if !fits {
            let least = if at_least { "at least " } else { "" };
            return Err(missing(format!("{key} is {found}, and must be {least}{wanted}")));
        }
    }
    Ok(())
}
