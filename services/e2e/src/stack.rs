//! A stack: every service, on one kind of log and store.

use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use caselock_client::Tls;
use caselock_domain::receipt::KeyRing;
use caselock_log::{Entry, Log, LogError, Topic, embedded::EmbeddedLog};
use caselock_log_kafka::{KafkaConfig, KafkaLog, Provision, provision};
use caselock_runtime::clock::system_clock;
use caselock_runtime::secret::Secret;
use caselock_store::{Store, fs::FsStore, oldest_version};
use caselock_store_s3::{S3Config, S3Store};
use tempfile::TempDir;

use crate::{PATIENCE, Program, Run, Server, contract, postgres_database, root, wait_until};

/// On what a stack stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One process, a log in a file, objects in a directory.
    Embedded,
    /// Gateway, archiver and media as processes, on Kafka and S3.
    Distributed,
}

/// Partitions of each topic of a distributed stack.
const PARTITIONS: u32 = 4;

pub struct Stack {
    pub kind: Kind,
    /// Before the folder: what a failed one said is read from there as it goes.
    pub programs: BTreeMap<&'static str, Program>,
    pub dir: TempDir,
    pub server: String,
    pub registry: String,
    pub kafka: KafkaConfig,
    pub s3: S3Config,
    /// What the shell does before it starts a program.
    pub first: &'static str,
    /// The settings of all services.
    pub config: Vec<(String, String)>,
    admin: BTreeMap<&'static str, u16>,
    /// A store of this test's own.
    _own: Option<Server>,
}

impl Stack {
    /// Starts every service, with further settings.
    pub async fn start(kind: Kind, settings: &[(&str, &str)]) -> Self {
        Self::prepare(kind, settings).await.started()
    }

    /// Starts every service.
    pub fn started(mut self) -> Self {
        for service in self.services() {
            self.run(service);
        }
        self
    }

    /// Prepares certificates, topics and bucket; starts nothing.
    pub async fn prepare(kind: Kind, settings: &[(&str, &str)]) -> Self {
        Self::prepare_on(kind, settings, &|name| std::env::var(name).ok()).await
    }

    /// As [`Stack::prepare`], for what is locked for years: on a store of this test's own, where the one that is named is to be kept.
    pub async fn prepare_to_lock_for_years(kind: Kind, settings: &[(&str, &str)]) -> Self {
        if kind == Kind::Embedded || std::env::var_os("CASELOCK_TEST_S3_SCRATCH").is_some() {
            return Self::prepare(kind, settings).await;
        }
        let server = Server::start("s3.sh");
        let own = server.variables();
        let variables = |name: &str| match name.starts_with("CASELOCK_TEST_S3_") {
            true => own.get(name).cloned(),
            false => std::env::var(name).ok(),
        };
        Self { _own: Some(server), ..Self::prepare_on(kind, settings, &variables).await }
    }

    /// Prepares a distributed stack whose topics have further settings.
    pub async fn prepare_topics(topics: &[(Topic, &str, &str)]) -> Self {
        Self::prepare_with(Kind::Distributed, &[], &|name| std::env::var(name).ok(), topics).await
    }

    /// As [`Stack::prepare`], on the servers that these variables name.
    pub async fn prepare_on(kind: Kind, settings: &[(&str, &str)], variables: &dyn Fn(&str) -> Option<String>) -> Self {
        Self::prepare_with(kind, settings, variables, &[]).await
    }

    async fn prepare_with(
        kind: Kind,
        settings: &[(&str, &str)],
        variables: &dyn Fn(&str) -> Option<String>,
        topics: &[(Topic, &str, &str)],
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let made = Command::new(root().join("deploy/dev-ca.sh"))
            .args([&dir.path().join("ca"), Path::new("demo"), Path::new("other"), Path::new("operator:archivist")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let [server, registry] = [free_port(), free_port()].map(|port| format!("https://localhost:{port}"));
        let admin = ["gateway", "archiver", "media", "standalone"].map(|service| (service, free_port()));
        let (kafka, replication) = kafka_config(variables);
        let mut stack = Self {
            kind,
            server,
            registry,
            kafka,
            s3: s3_config(variables),
            first: ":",
            config: Vec::new(),
            admin: admin.into_iter().collect(),
            programs: BTreeMap::new(),
            _own: None,
            dir,
        };
        stack.config = stack.base_config();
        if kind == Kind::Distributed && variables("CASELOCK_TEST_S3_SCRATCH").is_none() {
            // On a server of one's own nothing is locked for half a year, nor for the years of a class.
            let short = [
                ("registry.unlawful_periods_for_tests", "true"),
                ("registry.roll_when_under", "PT8M"),
                ("registry.roll_to", "PT15M"),
                ("registry.classes.10y", "PT15M"),
                ("registry.classes.30y", "PT15M"),
            ];
            stack.config.extend(short.map(|(key, value)| (key.to_owned(), value.to_owned())));
            stack.config.push(("archiver.retention.unlawful_period_for_tests".into(), "PT15M".into()));
        }
        stack.config.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        if kind == Kind::Distributed {
            let topics = topics.iter().map(|(topic, key, value)| (*topic, (*key).to_owned(), (*value).to_owned()));
            let how = Provision { replication, settings: topics.collect() };
            provision(&stack.kafka, &how).await.unwrap();
            if variables("CASELOCK_TEST_S3_BUCKET").is_none() {
                S3Store::open(&stack.s3).await.create_bucket().await.unwrap();
            }
        }
        stack
    }

    fn base_config(&self) -> Vec<(String, String)> {
        let ca = |name: &str| self.dir.path().join("ca").join(name).display().to_string();
        let mut config: Vec<(String, String)> = vec![
            ("gateway.listen".into(), self.server.replace("https://localhost", "127.0.0.1")),
            ("gateway.tls.certificate".into(), ca("server.pem")),
            ("gateway.tls.key".into(), ca("server.key")),
            ("gateway.tls.client_ca".into(), ca("ca.pem")),
            ("registry.listen".into(), self.registry.replace("https://localhost", "127.0.0.1")),
            ("registry.tls.certificate".into(), ca("server.pem")),
            ("registry.tls.key".into(), ca("server.key")),
            ("registry.tls.client_ca".into(), ca("ca.pem")),
            ("archiver.signing_key".into(), ca("receipt-key.pem")),
            ("media.scratch".into(), self.dir.path().display().to_string()),
        ];
        match self.kind {
            Kind::Embedded => config.push(("standalone.data".into(), self.data().display().to_string())),
            Kind::Distributed => {
                config.push(("kafka.brokers".into(), self.kafka.brokers.clone()));
                config.push(("kafka.topic_prefix".into(), self.kafka.topic_prefix.clone()));
                config.push(("kafka.partitions".into(), PARTITIONS.to_string()));
                config.push(("kafka.single_node".into(), self.kafka.single_node.to_string()));
                let properties = self.kafka.properties.iter();
                config.extend(
                    properties.map(|(n, v)| (format!("kafka.properties.{}", n.replace('.', "_")), v.to_string())),
                );
                config.push(("kafka.session_timeout_ms".into(), self.kafka.session_timeout_ms.to_string()));
                config.push(("s3.bucket".into(), self.s3.bucket.clone()));
                config.push(("s3.prefix".into(), self.s3.prefix.clone()));
                config.push(("s3.region".into(), self.s3.region.clone()));
                let read = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.read().unwrap());
                let named = [
                    ("endpoint", self.s3.endpoint.clone()),
                    ("access_key", read(&self.s3.access_key)),
                    ("secret_key", read(&self.s3.secret_key)),
                ];
                for (key, value) in named {
                    config.extend(value.map(|value| (format!("s3.{key}"), format!("\"{value}\""))));
                }
            }
        }
        config
    }

    /// The services' names.
    pub fn services(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Embedded => vec!["standalone"],
            Kind::Distributed => vec!["gateway", "archiver", "media"],
        }
    }

    /// The service that archives.
    pub fn archiver(&self) -> &'static str {
        if self.kind == Kind::Embedded { "standalone" } else { "archiver" }
    }

    /// Starts a service, and waits until it is ready.
    pub fn run(&mut self, service: &'static str) {
        let program = self.spawn(service, self.admin[service], &[]).ready();
        self.programs.insert(service, program);
    }

    /// Starts the registry, on a database of its own; `None` where it is in the one process already.
    pub async fn start_registry(&self) -> Option<Program> {
        if self.kind == Kind::Embedded {
            return None;
        }
        let registry = self.spawn("registry", free_port(), &[("registry.database", postgres_database().await)]).ready();
        Some(registry)
    }

    /// Starts a program beside those of the stack, with further settings.
    pub fn spawn(&self, service: &'static str, admin: u16, settings: &[(&str, String)]) -> Program {
        self.spawn_without("none", service, admin, settings)
    }

    /// As [`Stack::spawn`], without the settings that begin so.
    pub fn spawn_without(
        &self,
        left_out: &str,
        service: &'static str,
        admin: u16,
        settings: &[(&str, String)],
    ) -> Program {
        let sections: &[&str] = match service {
            "gateway" => &["gateway", "kafka", "telemetry"],
            "archiver" => &["archiver", "kafka", "s3", "telemetry"],
            "media" => &["media", "kafka", "s3", "telemetry"],
            "registry" => &["registry", "kafka", "s3", "telemetry"],
            _ => &["gateway", "archiver", "media", "registry", "standalone", "telemetry"],
        };
        let belongs = |(key, _): &&(String, String)| sections.iter().any(|s| key.starts_with(&format!("{s}.")));
        let mut config: Vec<_> = self.config.iter().filter(belongs).cloned().collect();
        config.retain(|(key, _)| !key.starts_with(left_out));
        config.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let log = self.dir.path().join(format!("{service}-{admin}.log"));
        Program::spawn(self.first, &format!("caselock-{service}"), &config, admin, &log)
    }

    /// The settings of a program that is run to its end, as flags.
    pub fn flags(&self, sections: &[&str]) -> Vec<String> {
        let belongs = |(key, _): &&(String, String)| sections.iter().any(|s| key.starts_with(&format!("{s}.")));
        let settings = self.config.iter().filter(belongs);
        settings.flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect()
    }

    /// kill -9.
    pub fn kill(&mut self, service: &'static str) {
        self.programs.remove(service).unwrap().kill();
    }

    /// A number that a service counts, summed over labels; 0 before it was counted.
    pub fn metric(&self, service: &str, name: &str) -> u64 {
        self.programs[service].metric(name)
    }

    /// Waits until media has done with every recording of a run: `derived.json` is the last thing it stores.
    pub async fn wait_derived(&self, run: &Run) {
        let ids = run.of_kind("stored").map(|event| event["recording_id"].as_str().unwrap());
        let keys = ids.map(|id| format!("v1/demo/recordings/{id}/0/derived.json"));
        if self.kind == Kind::Embedded {
            for key in keys {
                wait_until(&key, || self.data().join("store").join(&key).exists());
            }
            return;
        }
        let store = self.store().await;
        for key in keys {
            let there = async {
                while oldest_version(&*store, &key).await.unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(PATIENCE, there).await.expect("derivatives");
        }
    }

    /// The service that takes segments.
    pub fn gateway(&self) -> &'static str {
        if self.kind == Kind::Embedded { "standalone" } else { "gateway" }
    }

    /// kill -9, and start it again.
    pub fn restart(&mut self, service: &'static str) {
        self.kill(service);
        self.run(service);
    }

    /// SIGTERM to every service, the gateway first; each must end with 0.
    pub fn stop(&mut self) {
        for service in self.services() {
            if let Some(program) = self.programs.remove(service) {
                assert_eq!(program.stop(), Some(0), "{service}");
            }
        }
    }

    /// The store. Of the embedded kind only once its process has stopped.
    pub async fn store(&self) -> Arc<dyn Store> {
        match self.kind {
            Kind::Embedded => FsStore::open(self.data().join("store"), system_clock()).unwrap(),
            Kind::Distributed => S3Store::open(&self.s3).await,
        }
    }

    /// The log. Of the embedded kind only once its process has stopped.
    pub async fn log(&self) -> Arc<dyn Log> {
        match self.kind {
            Kind::Embedded => loop {
                match EmbeddedLog::open(&self.data().join("log.redb")) {
                    // Whoever read it before lets go of it a moment after.
                    Err(LogError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    log => return log.unwrap(),
                }
            },
            Kind::Distributed => KafkaLog::open(&self.kafka).await.unwrap(),
        }
    }

    /// What the bucket calls a key.
    pub fn in_bucket(&self, key: &str) -> String {
        format!("{}{key}", self.s3.prefix)
    }

    /// Every record of a topic by now.
    pub async fn records(&self, topic: Topic) -> Vec<Entry> {
        contract::records(&*self.log().await, topic).await
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Who calls as `who`, a certificate's name.
    pub fn tls(&self, who: &str) -> Tls {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join("ca").join(name)).unwrap();
        Tls { ca: read("ca.pem"), certificate: read(&format!("{who}.pem")), key: read(&format!("{who}.key")) }
    }

    pub fn keys(&self) -> KeyRing {
        let mut keys = KeyRing::default();
        keys.add_pem(&std::fs::read_to_string(self.dir.path().join("ca/receipt-key.pub.pem")).unwrap()).unwrap();
        keys
    }
}

fn kafka_config(variables: &dyn Fn(&str) -> Option<String>) -> (KafkaConfig, u32) {
    let named = KafkaConfig::for_tests(variables, format!("e2e-{}.", uuid::Uuid::new_v4()), PARTITIONS);
    let (config, replicas) = named.expect("CASELOCK_TEST_KAFKA names the broker to test against");
    (KafkaConfig { session_timeout_ms: 6_000, ..config }, replicas)
}

fn s3_config(variables: &dyn Fn(&str) -> Option<String>) -> S3Config {
    let variable = |name: &str| variables(&format!("CASELOCK_TEST_S3_{name}"));
    let own = format!("e2e-{}", uuid::Uuid::new_v4());
    S3Config {
        prefix: format!("{own}/"),
        bucket: variable("BUCKET").unwrap_or(own),
        region: variable("REGION").unwrap_or_else(|| "us-east-1".into()),
        endpoint: variable("ENDPOINT"),
        access_key: Some(
            variable("ACCESS_KEY").expect("CASELOCK_TEST_S3_ACCESS_KEY names the server to test against").into(),
        ),
        secret_key: variable("SECRET_KEY").map(Into::into),
        ..S3Config::default()
    }
}

/// A port that is free, and that no other test of this process was given. Below the range that the kernel takes outgoing
/// connections' ports from.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = rand::random_range(12_000..19_900);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
