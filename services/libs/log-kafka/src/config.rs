use std::collections::BTreeMap;

use caselock_log::Topic;
use caselock_runtime::secret::Secret;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// How to reach the brokers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KafkaConfig {
    /// `host:port`, several parted by commas.
    pub brokers: String,
    /// What the names of topics and groups begin with, before `caselock`; for clusters shared with others.
    pub topic_prefix: String,
    /// How many partitions every topic was made with, where that is not the usual 48, 48, 48, 12 and 6. Fixed for a topic's life: a
    /// service refuses to start on a topic that has another count.
    pub partitions: Option<u32>,
    /// Whether the cluster is one node on purpose: then `min.insync.replicas` may be 1. Not for production.
    pub single_node: bool,
    /// Milliseconds after which a member of a group that is silent loses its partitions.
    pub session_timeout_ms: u32,
    /// Further properties of librdkafka: TLS, SASL. Their dots may be written as underscores, so that the environment can hold them:
    /// `CASELOCK__KAFKA__PROPERTIES__SECURITY_PROTOCOL`. A value `file:PATH` is read from that file.
    #[serde(serialize_with = "masked")]
    pub properties: BTreeMap<String, Property>,
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KafkaConfigError {
    /// A setting, and what would be right.
    #[error("kafka.{0}: expected {1}")]
    Setting(&'static str, &'static str),
    /// A property that librdkafka does not know, or whose value it does not take, or that can't be read from its file.
    #[error("kafka.properties: {0}")]
    Property(KafkaError),
}

/// A property's value, however it was written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    /// true or false.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl From<String> for Property {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", Secret::from(text.clone())),
            other => write!(f, "{other}"),
        }
    }
}

impl std::fmt::Display for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switch(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic_prefix: String::new(),
            partitions: None,
            single_node: false,
            session_timeout_ms: 15_000,
            properties: BTreeMap::new(),
        }
    }
}

impl KafkaConfig {
    /// Checks what can be checked without a broker.
    pub fn check(&self) -> Result<(), KafkaConfigError> {
        for (is_right, setting, expected) in [
            (!self.brokers.trim().is_empty(), "brokers", "host:port, several parted by commas"),
            (self.partitions != Some(0), "partitions", "at least 1"),
            // As librdkafka has it, and brokers by their own settings.
            ((1_000..=3_600_000).contains(&self.session_timeout_ms), "session_timeout_ms", "1,000 to 3,600,000"),
        ] {
            if !is_right {
                return Err(KafkaConfigError::Setting(setting, expected));
            }
        }
        self.client().map(drop).map_err(KafkaConfigError::Property)
    }

    /// The topic's name on this cluster.
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    /// For tests against a cluster of one's own: brokers, properties (`name=value`, parted by commas) and replicas from
    /// `CASELOCK_TEST_KAFKA`, `_PROPERTIES` and `_REPLICATION`. `None` where no cluster is named.
    pub fn for_tests(
        variables: &dyn Fn(&str) -> Option<String>,
        prefix: String,
        partitions: u32,
    ) -> Option<(Self, u32)> {
        let properties = variables("CASELOCK_TEST_KAFKA_PROPERTIES").unwrap_or_default();
        let pairs = properties.split(',').filter_map(|pair| pair.split_once('='));
        let replicas = variables("CASELOCK_TEST_KAFKA_REPLICATION").and_then(|count| count.parse().ok()).unwrap_or(1);
        let config = Self {
            brokers: variables("CASELOCK_TEST_KAFKA")?,
            topic_prefix: prefix,
            partitions: Some(partitions),
            single_node: replicas == 1,
            properties: pairs.map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect(),
            ..Self::default()
        };
        Some((config, replicas))
    }

    /// How many partitions the topic must have.
    pub fn partitions(&self, topic: Topic) -> u32 {
        self.partitions.unwrap_or(topic.default_partitions())
    }

    /// The group's name on this cluster.
    pub fn group(&self, group: &str) -> String {
        format!("{}{group}", self.topic_prefix)
    }

    /// What every client has.
    pub(crate) fn client(&self) -> KafkaResult<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "caselock")
            // A broker that comes back is used soon.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.properties {
            let is_own = name.contains('.') || ["log_level", "enabled_events"].contains(&name.as_str());
            let name = if is_own { name.clone() } else { name.replace('_', ".") };
            let value = Secret::from(value.to_string()).read();
            config.set(name, value.map_err(|error| KafkaError::ClientCreation(error.to_string()))?);
        }
        match config.create_native_config() {
            Ok(_) => Ok(config),
            // Its own words have the value in them, which may be a secret.
            Err(KafkaError::ClientConfig(_, problem, name, _)) => {
                Err(KafkaError::ClientCreation(format!("{name}: {problem}")))
            }
            Err(error) => Err(error),
        }
    }

    /// What every consumer has. Large messages stall with librdkafka's own `fetch.queue.backoff.ms` of a second.
    pub(crate) fn consumer(&self) -> KafkaResult<ClientConfig> {
        let mut config = self.client()?;
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "65536")
            .set("fetch.message.max.bytes", "18874368")
            .set("fetch.max.bytes", "67108864")
            .set("receive.message.max.bytes", "100000000");
        Ok(config)
    }
}

/// Properties whose texts are no secrets.
const SHOWN: [&str; 6] =
    ["security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "client.id", "client.rack"];

/// What the name of a secret has in it.
const SECRET: [&str; 4] = ["password", "secret", "passphrase", ".pem"];

/// As they may be shown: of any other text only the file it is in, and of a secret no number either.
fn masked<S: Serializer>(properties: &BTreeMap<String, Property>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(properties.iter().map(|(name, value)| {
        let dotted = name.replace('_', ".");
        let is_shown = SHOWN.contains(&dotted.as_str()) || dotted.ends_with(".location");
        let is_secret = SECRET.iter().any(|word| dotted.contains(word));
        let shown = match value {
            Property::Number(_) | Property::Switch(_) if is_secret => {
                Property::Text(Secret::from(value.to_string()).to_string())
            }
            Property::Text(text) if !is_shown => Property::Text(Secret::from(text.clone()).to_string()),
            other => other.clone(),
        };
        (name, shown)
    }))
}
