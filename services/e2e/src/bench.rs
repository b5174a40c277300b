//! Services within the test, so that one of them can die at any point while the others live: a gateway with its client, and
//! archivers, each in a runtime of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use caselock_archiver::{Archiver, ArchiverConfig, ArchiverContext, RetentionConfig};
use caselock_client::{Client, Connect, Footage, Upload, UploadError, Uploaded};
use caselock_domain::{
    fact::{self},
    id::RecordingId,
    partition,
    receipt::KeyRing,
    state::RecordingFacts,
};
use caselock_gateway::{Gateway, GatewayConfig, GatewayContext};
use caselock_log::{Followed, Log, Record, Topic, embedded::EmbeddedLog};
use caselock_proto::v1 as proto;
use caselock_runtime::{clock::system_clock, health::Health};
use caselock_store::{Store, fs::FsStore};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{Faults, Kind, Lie, PATIENCE, Stack, Unfaithful, root};

/// An archiver's life, from its start on.
async fn live(starting: impl Future<Output = anyhow::Result<Archiver>>) {
    starting.await.unwrap().stopped().await.unwrap();
}

/// A log, a store, a gateway and a client.
pub struct Bench {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub client: Arc<Client>,
    pub dir: TempDir,
    pub keys: KeyRing,
    gateways: Vec<Gateway>,
    retention: RetentionConfig,
}

/// An archiver that is running in a runtime of its own.
pub struct Running {
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
}

impl Running {
    /// As kill -9: when this returns, no task of it goes on, and the connections of the shared client that its tasks had made are
    /// closed. What it had handed to the log by then is appended all the same.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime is not waited for within another.
            std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bench {
    /// On the embedded log and store.
    pub async fn embedded() -> Self {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        let store = FsStore::open(dir.path().join("store"), system_clock()).unwrap();
        Self::on(log, store, dir).await
    }

    /// As [`Bench::embedded`], on a store that lies.
    pub async fn embedded_lying(lie: Lie) -> Self {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        let store = FsStore::open(dir.path().join("store"), system_clock()).unwrap();
        Self::on(log, Unfaithful::on(store, lie), dir).await
    }

    /// On the real Kafka and a real S3 server.
    pub async fn distributed() -> Self {
        let stack = Stack::prepare(Kind::Distributed, &[]).await;
        let bench = Self::on(stack.log().await, stack.store().await, TempDir::new().unwrap()).await;
        // On a server of one's own nothing is locked for half a year.
        let short = std::env::var_os("CASELOCK_TEST_S3_SCRATCH").is_none().then(|| "PT15M".to_owned());
        let retention = RetentionConfig { unlawful_period_for_tests: short, ..RetentionConfig::default() };
        Self { retention, ..bench }
    }

    /// On the log and store of such a stack.
    pub async fn of(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => Self::embedded().await,
            Kind::Distributed => Self::distributed().await,
        }
    }

    /// On a log and store of one's own.
    pub async fn on(log: Arc<dyn Log>, store: Arc<dyn Store>, dir: TempDir) -> Self {
        let ca = dir.path().join("ca");
        assert!(Command::new(root().join("deploy/dev-ca.sh")).arg(&ca).output().unwrap().status.success());
        let mut keys = KeyRing::default();
        keys.add_pem(&std::fs::read_to_string(ca.join("receipt-key.pub.pem")).unwrap()).unwrap();
        let gateways = vec![gateway(log.clone()).await, gateway(log.clone()).await];
        let client = Arc::new(client(&gateways[..1], &keys));
        Self { log, store, client, dir, keys, gateways, retention: RetentionConfig::default() }
    }

    /// A client of the gateway with this number (0 or 1).
    pub fn client_of(&self, gateway: usize) -> Client {
        client(&self.gateways[gateway..=gateway], &self.keys)
    }

    /// The gateway's address, for callers of the protocol.
    pub fn address(&self) -> String {
        format!("http://{}", self.gateways[0].address)
    }

    /// Starts an archiver, perhaps one that is going to die.
    pub fn archiver(&self, faults: Option<&Faults>) -> Running {
        match faults {
            Some(faults) => self.archiver_on(faults.log(self.log.clone()), faults.store(self.store.clone())),
            None => self.archiver_on(self.log.clone(), self.store.clone()),
        }
    }

    /// An archiver that is about to start.
    fn starting(
        &self,
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        signing_key: PathBuf,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<Archiver>> + Send + use<> {
        let config = ArchiverConfig { signing_key, retention: self.retention.clone(), ..ArchiverConfig::default() };
        let (clock, health) = (system_clock(), Health::default());
        let context = ArchiverContext { log, store, clock, nonce: rand::random::<[u8; 16]>, health, stop };
        caselock_archiver::start(config, context)
    }

    fn signing_key(&self) -> PathBuf {
        self.dir.path().join("ca/receipt-key.pem")
    }

    /// Starts an archiver on ports of its own.
    pub fn archiver_on(&self, log: Arc<dyn Log>, store: Arc<dyn Store>) -> Running {
        self.archiver_with(log, store, self.signing_key())
    }

    /// Starts an archiver on ports, and with a signing key, of its own.
    pub fn archiver_with(&self, log: Arc<dyn Log>, store: Arc<dyn Store>, signing_key: PathBuf) -> Running {
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(live(self.starting(log, store, signing_key, stop.clone())));
        Running { runtime: Some(runtime), stop }
    }

    /// An archiver for which time flies: whenever it waits for nothing but time, that has passed. It stops with the token.
    pub fn hasty_archiver_on(&self, store: Arc<dyn Store>) -> CancellationToken {
        let stop = CancellationToken::new();
        let archiver = live(self.starting(self.log.clone(), store, self.signing_key(), stop.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        std::thread::spawn(move || runtime.block_on(archiver));
        stop
    }

    /// Why an archiver refuses to start on a store.
    pub async fn archiver_refuses(&self, store: Arc<dyn Store>) -> String {
        let starting = self.starting(self.log.clone(), store, self.signing_key(), CancellationToken::new());
        format!("{:#}", starting.await.err().expect("a refusal"))
    }

    /// Uploads a file as `key`, with a case number, so that there is a hold to be set.
    pub async fn upload(&self, client: &Client, path: &Path, key: &str) -> Result<Uploaded, UploadError> {
        self.upload_as(client, path, key, "application/octet-stream").await
    }

    /// As [`Bench::upload`], as this media type.
    pub async fn upload_as(
        &self,
        client: &Client,
        path: &Path,
        key: &str,
        content_type: &str,
    ) -> Result<Uploaded, UploadError> {
        let upload = Upload {
            key: key.to_owned(),
            metadata: proto::RecordingMetadata { content_type: content_type.into(), ..metadata() },
            throttle: Arc::default(),
            patience: Duration::from_secs(60),
            report: &|_| {},
        };
        client.upload(&Footage::open(path)?, &upload).await
    }

    /// The facts of a recording, read from the log as any service reads them.
    pub async fn facts(&self, id: RecordingId) -> RecordingFacts {
        let mut facts = RecordingFacts::default();
        for (offset, record) in self.records(Topic::Uploads, id).await {
            let (key, fact) = fact::decode(&record.key, record.payload.as_deref()).unwrap();
            if key.recording == id {
                facts.apply(&key, offset, fact);
            }
        }
        facts
    }

    /// The records of the partition that a recording's go to.
    pub async fn records(&self, topic: Topic, id: RecordingId) -> Vec<(u64, Record)> {
        self.partition(topic, partition::of(id, self.log.partitions(topic))).await
    }

    /// The records of a partition.
    pub async fn partition(&self, topic: Topic, number: u32) -> Vec<(u64, Record)> {
        let bounds = self.log.bounds(topic, number).await.unwrap();
        let mut follower = self.log.follow(topic, vec![(number, bounds.start)]).await.unwrap();
        let mut records = Vec::new();
        loop {
            match follower.recv().await.unwrap().unwrap() {
                Followed::Entry(entry) => records.push((entry.offset, entry.record)),
                Followed::End { position, .. } if position >= bounds.end => return records,
                Followed::End { .. } => {}
            }
        }
    }

    /// Waits, boundedly, until the facts of a recording are so.
    pub async fn wait_for(&self, what: &str, id: RecordingId, holds: impl Fn(&RecordingFacts) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !holds(&self.facts(id).await) {
            assert!(Instant::now() < give_up, "waited for: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn gateway(log: Arc<dyn Log>) -> Gateway {
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        plaintext_bureau: Some("demo".into()),
        ..GatewayConfig::default()
    };
    let context = GatewayContext {
        log,
        clock: system_clock(),
        nonce: rand::random::<[u8; 16]>,
        health: Health::default(),
        stop: CancellationToken::new(),
    };
    caselock_gateway::start(config, context).await.unwrap()
}

fn client(gateways: &[Gateway], keys: &KeyRing) -> Client {
    let servers = gateways.iter().map(|gateway| format!("http://{}", gateway.address)).collect();
    Client::new(&Connect { servers, tls: None }, keys.clone()).unwrap()
}

/// Metadata that is complete: of a document, with a case.
pub fn metadata() -> proto::RecordingMetadata {
    proto::RecordingMetadata {
        source: proto::Source::Document as i32,
        matter: proto::Matter::Penalty as i32,
        record_form: proto::RecordForm::Document as i32,
        unit: "unit".into(),
        officers: vec!["officer".into()],
        document_id: "WS-1".into(),
        case_number: "2026-1".into(),
        original_name: "a.bin".into(),
        content_type: "application/octet-stream".into(),
        ..Default::default()
    }
}
