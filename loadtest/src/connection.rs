//! The servers under load: the gateways as bureaus reach them, and log and store as the check looks at them.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use caselock_client::{Client, Connect, Tls};
use caselock_domain::receipt::KeyRing;
use caselock_log_kafka::{KafkaConfig, KafkaLog, Provision, provision};
use caselock_store_s3::{S3Config, S3Store};
use clap::Args;

/// How long word of new topics may take.
const SPREAD: Duration = Duration::from_secs(30);

/// Kafka and the S3 server.
#[derive(Debug, Clone, Args)]
pub struct Servers {
    /// Kafka's brokers.
    #[arg(long, env = "CASELOCK_TEST_KAFKA", value_name = "HOST:PORT")]
    pub brokers: String,
    /// What the names of the topics begin with.
    #[arg(long, env = "CASELOCK_LOAD_TOPIC_PREFIX", default_value = "", hide_default_value = true)]
    pub topic_prefix: String,
    /// Partitions of each topic, where that is not the usual 48, 48, 48, 12 and 6.
    #[arg(long, env = "CASELOCK_LOAD_PARTITIONS")]
    pub partitions: Option<u32>,
    /// A property of librdkafka, for TLS and SASL. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    pub kafka_property: Vec<(String, String)>,
    /// The S3 server.
    #[arg(long, env = "CASELOCK_TEST_S3_ENDPOINT", value_name = "URL")]
    pub endpoint: String,
    /// Its region.
    #[arg(long, env = "CASELOCK_TEST_S3_REGION", default_value = "us-east-1")]
    pub region: String,
    /// Its access key.
    #[arg(long, env = "CASELOCK_TEST_S3_ACCESS_KEY", hide_env_values = true)]
    pub access_key: String,
    /// The access key's secret.
    #[arg(long, env = "CASELOCK_TEST_S3_SECRET_KEY", hide_env_values = true)]
    pub secret_key: String,
    /// The bucket.
    #[arg(long, default_value = "load")]
    pub bucket: String,
    /// What every key in it begins with.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
}

fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "expected NAME=VALUE".to_owned())
}

impl Servers {
    /// The topics.
    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig {
            brokers: self.brokers.clone(),
            topic_prefix: self.topic_prefix.clone(),
            partitions: self.partitions,
            single_node: true,
            properties: self.kafka_property.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            ..KafkaConfig::default()
        }
    }

    /// The bucket.
    pub async fn store(&self) -> Arc<S3Store> {
        let config = S3Config {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: Some(self.endpoint.clone()),
            access_key: Some(self.access_key.clone().into()),
            secret_key: Some(self.secret_key.clone().into()),
            ..S3Config::default()
        };
        S3Store::open(&config).await
    }
}

/// Makes topics and bucket; what is there already stays.
pub async fn prepare(servers: &Servers) -> anyhow::Result<()> {
    let how = Provision { replication: 1, settings: Vec::new() };
    provision(&servers.kafka(), &how).await.context("make the topics")?;
    // A topic that was made is known to every client a moment later.
    let give_up = Instant::now() + SPREAD;
    while let Err(error) = KafkaLog::open(&servers.kafka()).await {
        ensure!(Instant::now() < give_up, "the topics are not known: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    servers.store().await.create_bucket().await.context("make the bucket")
}

/// What receipts are checked with.
#[derive(Debug, Args)]
pub struct Receipts {
    /// The public key that receipts are signed with.
    #[arg(long, value_name = "FILE")]
    receipt_key: PathBuf,
}

impl Receipts {
    /// The key.
    pub fn keys(&self) -> anyhow::Result<KeyRing> {
        let mut keys = KeyRing::default();
        keys.add_pem(&read(&self.receipt_key)?).context("read the receipts' key")?;
        Ok(keys)
    }
}

/// The gateways, and who calls them.
#[derive(Debug, Args)]
pub struct Gateways {
    /// A gateway; several are used in turn.
    #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
    server: Vec<String>,
    /// A folder that deploy/dev-ca.sh made: the CA, and the certificate of each bureau. Without it there is no TLS.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// The bureaus; of several each has a connection of its own.
    #[arg(long, value_delimiter = ',', default_value = "demo", value_name = "NAME")]
    pub bureaus: Vec<String>,
    /// Connections of each bureau: commands at once, docking PCs.
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

impl Gateways {
    /// A client for each bureau and connection, those of a bureau side by side.
    pub fn clients(&self, keys: &KeyRing) -> anyhow::Result<Vec<(String, Vec<Arc<Client>>)>> {
        let clients = self.bureaus.iter().map(|bureau| {
            let connect = Connect { servers: self.server.clone(), tls: self.tls(bureau)? };
            let own = (0..self.connections.max(1)).map(|_| Ok(Arc::new(Client::new(&connect, keys.clone())?)));
            Ok((bureau.clone(), own.collect::<anyhow::Result<_>>()?))
        });
        clients.collect()
    }

    fn tls(&self, bureau: &str) -> anyhow::Result<Option<Tls>> {
        let Some(folder) = &self.ca else { return Ok(None) };
        let pem = |name: &str| read(&folder.join(name));
        let (certificate, key) = (pem(&format!("{bureau}.pem"))?, pem(&format!("{bureau}.key"))?);
        Ok(Some(Tls { ca: pem("ca.pem")?, certificate, key }))
    }
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
