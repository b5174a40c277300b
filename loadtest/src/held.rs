//! How long it takes to say what is held of a recording with very many segments, none of whose bytes need be anywhere.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use caselock_domain::{
    digest::SegmentValue,
    fact::{Acknowledged, Fact, FactKey, Subject},
    id::RecordingId,
    shape::SEGMENT,
};
use caselock_log::{Log, append_fact};
use caselock_log_kafka::KafkaLog;
use caselock_proto::v1::{
    AbandonUploadRequest, GetUploadRequest, OpenUploadRequest, ingest_service_client::IngestServiceClient,
};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{connection::Servers, drive, report};

/// Facts that are on their way at once.
const AT_ONCE: usize = 64;
/// How long the gateway may take to read them.
const READ: Duration = Duration::from_secs(60);
/// Calls that are timed.
const CALLS: usize = 200;

/// Opens a recording, acknowledges its segments in the log without their bytes, and asks for it. No archiver may run: it would ask
/// for the bytes.
#[derive(Debug, Args)]
pub struct Held {
    /// The gateway, without TLS.
    #[arg(long, value_name = "URL")]
    server: String,
    /// How many segments.
    #[arg(long, default_value_t = 8192)]
    segments: u32,
    #[command(flatten)]
    servers: Servers,
}

/// Times it, and says how long it took.
pub async fn run(held: &Held) -> anyhow::Result<()> {
    let log = KafkaLog::open(&held.servers.kafka()).await.context("reach Kafka")?;
    let mut ingest = IngestServiceClient::connect(held.server.clone()).await.context("reach the gateway")?;
    ingest = ingest.max_decoding_message_size(16 << 20);
    let open = OpenUploadRequest {
        idempotency_key: format!("held:{:x}", rand::random::<u64>()),
        metadata: Some(drive::metadata("held.bin".as_ref(), String::new())),
        size: Some(u64::from(SEGMENT) * u64::from(held.segments)),
    };
    let opened = ingest.open_upload(open).await.context("open")?.into_inner();
    let recording = opened.recording.context("the gateway named no recording")?;
    let id: RecordingId = recording.recording_id.parse().context("a recording's id")?;
    acknowledge(&*log, id, held.segments).await.context("write the acknowledgements")?;

    let get = || GetUploadRequest { recording_id: id.to_string() };
    let give_up = Instant::now() + READ;
    while ingest.get_upload(get()).await?.into_inner().held.len() < held.segments as usize {
        ensure!(Instant::now() < give_up, "the gateway has not read all of them");
    }
    let mut histogram = report::empty()?;
    for _ in 0..CALLS {
        let began = Instant::now();
        let answer = ingest.get_upload(get()).await?.into_inner();
        ensure!(answer.held.len() == held.segments as usize, "not all of them are held any more");
        report::add(&mut histogram, began.elapsed().as_secs_f64());
    }
    let report::Latency { median, p99, max, .. } = report::latency(&histogram);
    println!(
        "{} segments held: GetUpload median {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        held.segments,
        median * 1e3,
        p99 * 1e3,
        max * 1e3
    );
    ingest.abandon_upload(AbandonUploadRequest { recording_id: id.to_string() }).await.context("abandon")?;
    Ok(())
}

async fn acknowledge(log: &dyn Log, recording: RecordingId, segments: u32) -> anyhow::Result<()> {
    let facts = (0..segments).map(|index| async move {
        let value = SegmentValue(*blake3::hash(&index.to_be_bytes()).as_bytes());
        let key = FactKey { recording, generation: 0, subject: Subject::Acknowledged(index, value) };
        let fact = Acknowledged { length: SEGMENT, footage_offset: u64::from(index), root: None, at: None };
        append_fact(log, &key, Some(&Fact::Acknowledged(fact))).await
    });
    stream::iter(facts).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}
