//! The protocol's promises and refusals, on the embedded log, with nobody archiving.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use caselock_domain::digest::{Blake3, segment_digest};
use caselock_gateway::{Gateway, GatewayConfig, GatewayContext};
use caselock_log::{Log, Topic, embedded::EmbeddedLog};
use caselock_proto::v1::{
    self as proto, RecordingState, ingest_service_client::IngestServiceClient, write_segments_request::Content,
    write_segments_response::Outcome,
};
use caselock_runtime::health::Health;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

const SEGMENT: usize = 8 << 20;

/// Gateways on one log.
struct Bench {
    log: Arc<EmbeddedLog>,
    _dir: TempDir,
}

/// One gateway, with a client of its bureau.
struct Door {
    client: IngestServiceClient<Channel>,
    stop: CancellationToken,
    gateway: Gateway,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { log: EmbeddedLog::open(&dir.path().join("log")).unwrap(), _dir: dir }
    }

    /// How many facts were ever in the log.
    async fn facts(&self) -> u64 {
        let mut count = 0;
        for partition in 0..self.log.partitions(Topic::Uploads) {
            count += self.log.bounds(Topic::Uploads, partition).await.unwrap().end;
        }
        count
    }

    async fn door(&self, bureau: &str) -> Door {
        self.door_with(bureau, |_| {}).await
    }

    async fn door_with(&self, bureau: &str, change: impl FnOnce(&mut GatewayConfig)) -> Door {
        let mut config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            plaintext_bureau: Some(bureau.into()),
            ..GatewayConfig::default()
        };
        change(&mut config);
        let stop = CancellationToken::new();
        let context = GatewayContext {
            log: self.log.clone(),
            clock: caselock_runtime::clock::system_clock(),
            nonce: || *uuid::Uuid::new_v4().as_bytes(),
            health: Health::default(),
            stop: stop.clone(),
        };
        let gateway = caselock_gateway::start(config, context).await.unwrap();
        let client = IngestServiceClient::connect(format!("http://{}", gateway.address)).await.unwrap();
        Door { client, stop, gateway }
    }
}

fn metadata() -> proto::RecordingMetadata {
    proto::RecordingMetadata {
        source: proto::Source::Document as i32,
        matter: proto::Matter::Permit as i32,
        record_form: proto::RecordForm::Document as i32,
        unit: "unit".into(),
        officers: vec!["officer".into()],
        document_id: "WS-1".into(),
        original_name: "a.pdf".into(),
        content_type: "application/pdf".into(),
        ..Default::default()
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ (i >> 11) as u8).collect()
}

fn whole(bytes: &[u8]) -> Blake3 {
    Blake3(*blake3::hash(bytes).as_bytes())
}

fn header(recording: &proto::Recording, index: u32, bytes: &[u8]) -> proto::SegmentHeader {
    proto::SegmentHeader {
        recording_id: recording.recording_id.clone(),
        generation: recording.generation,
        index,
        length: bytes.len() as u32,
        value: segment_digest(index, SEGMENT as u32, bytes).unwrap().value.0.to_vec().into(),
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error carries ErrorInfo");
    assert_eq!(info.domain, "caselock");
    info.reason.clone()
}

impl Door {
    async fn try_open(&mut self, key: &str, size: Option<u64>) -> Result<proto::Recording, Status> {
        let request = proto::OpenUploadRequest { idempotency_key: key.into(), metadata: Some(metadata()), size };
        Ok(self.client.open_upload(request).await?.into_inner().recording.unwrap())
    }

    async fn open(&mut self, key: &str, size: Option<u64>) -> proto::Recording {
        self.try_open(key, size).await.unwrap()
    }

    /// Sends messages over one stream and collects the outcomes until its end.
    async fn write(&mut self, contents: Vec<Content>) -> Result<Vec<Outcome>, Status> {
        let requests = contents.into_iter().map(|c| proto::WriteSegmentsRequest { content: Some(c) });
        let requests: Vec<_> = requests.collect();
        let mut answers = self.client.write_segments(tokio_stream::iter(requests)).await?.into_inner();
        let mut outcomes = Vec::new();
        while let Some(answer) = answers.message().await? {
            outcomes.push(answer.outcome.unwrap());
        }
        Ok(outcomes)
    }

    async fn send(&mut self, recording: &proto::Recording, index: u32, bytes: &[u8]) -> Outcome {
        self.write(segment(header(recording, index, bytes), bytes)).await.unwrap().remove(0)
    }

    async fn held(&mut self, recording: &proto::Recording) -> Vec<u32> {
        let request = proto::GetUploadRequest { recording_id: recording.recording_id.clone() };
        let held = self.client.get_upload(request).await.unwrap().into_inner().held;
        held.into_iter().map(|segment| segment.index).collect()
    }

    async fn seal(&mut self, recording: &proto::Recording, bytes: &[u8]) -> Result<proto::Recording, Status> {
        let request = proto::SealUploadRequest {
            recording_id: recording.recording_id.clone(),
            generation: recording.generation,
            size: bytes.len() as u64,
            blake3: whole(bytes).0.to_vec().into(),
        };
        Ok(self.client.seal_upload(request).await?.into_inner().recording.unwrap())
    }
}

fn segment(header: proto::SegmentHeader, bytes: &[u8]) -> Vec<Content> {
    let chunks = bytes.chunks(1 << 20).map(|c| Content::Chunk(c.to_vec().into()));
    std::iter::once(Content::Header(header)).chain(chunks).collect()
}

#[track_caller]
fn refused(outcome: &Outcome) -> &proto::SegmentRefused {
    match outcome {
        Outcome::Refused(refused) => refused,
        Outcome::Accepted(accepted) => panic!("accepted: {accepted:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_accepts_every_gateway_knows() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.door("demo").await, bench.door("demo").await);
    let bytes = bytes(2 * SEGMENT + 5);
    let recording = a.open("k", Some(bytes.len() as u64)).await;
    assert_eq!(b.open("k", Some(bytes.len() as u64)).await, recording);
    // Out of order, over both at once.
    let segments: Vec<_> = bytes.chunks(SEGMENT).collect();
    let (last, first) = tokio::join!(b.send(&recording, 2, segments[2]), a.send(&recording, 0, segments[0]));
    assert!(matches!((last, first), (Outcome::Accepted(_), Outcome::Accepted(_))));
    assert_eq!(a.held(&recording).await, [0, 2]);
    assert_eq!(b.held(&recording).await, [0, 2]);

    let gaps = b.seal(&recording, &bytes).await.unwrap_err();
    assert_eq!((reason(&gaps).as_str(), gaps.code()), ("SEAL_INCOMPLETE", Code::FailedPrecondition));
    assert!(gaps.message().contains("missing: 1"), "{}", gaps.message());
    assert!(matches!(b.send(&recording, 1, segments[1]).await, Outcome::Accepted(_)));
    let mut other = bytes.clone();
    other[7] ^= 1;
    assert_eq!(reason(&a.seal(&recording, &other).await.unwrap_err()), "SEAL_DIGEST_MISMATCH");
    assert_eq!(reason(&a.seal(&recording, &bytes[..SEGMENT]).await.unwrap_err()), "SEAL_DIGEST_MISMATCH");
    assert_eq!(a.seal(&recording, &bytes).await.unwrap().state(), RecordingState::Sealed);
    assert_eq!(b.seal(&recording, &bytes).await.unwrap().state(), RecordingState::Sealed);
    // Closed now, and it says so.
    assert_eq!(refused(&a.send(&recording, 0, segments[0]).await).reason, "UPLOAD_CLOSED");
    let abandon = proto::AbandonUploadRequest { recording_id: recording.recording_id.clone() };
    assert_eq!(reason(&a.client.abandon_upload(abandon).await.unwrap_err()), "UPLOAD_CLOSED");
}

/// How large a recording is that was opened without a size, its segments and its seal say.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_was_not_declared_is_the_seals_to_say() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let all = bytes(2 * SEGMENT + 5);
    let recording = door.open("k", None).await;
    for (index, segment) in all.chunks(SEGMENT).enumerate() {
        assert!(matches!(door.send(&recording, index as u32, segment).await, Outcome::Accepted(_)));
    }
    // More than is there; less, at a segment's end and within one; none at all.
    let more = bytes(2 * SEGMENT + 6);
    assert_eq!(reason(&door.seal(&recording, &more).await.unwrap_err()), "SEAL_DIGEST_MISMATCH");
    let longer = bytes(3 * SEGMENT + 1);
    let gaps = door.seal(&recording, &longer).await.unwrap_err();
    assert!(reason(&gaps) == "SEAL_INCOMPLETE" && gaps.message().contains("missing: 3"), "{gaps}");
    for less in [&all[..2 * SEGMENT], &all[..SEGMENT + 1], &all[..0]] {
        let refused = door.seal(&recording, less).await.unwrap_err();
        assert!(["SEAL_DIGEST_MISMATCH", "RECORDING_EMPTY"].contains(&reason(&refused).as_str()), "{refused}");
    }
    assert_eq!(door.seal(&recording, &all).await.unwrap().state(), RecordingState::Sealed);
    // A segment in the middle that is short makes no whole.
    let short = door.open("short", None).await;
    for (index, segment) in [&all[..10], &all[..20]].into_iter().enumerate() {
        door.send(&short, index as u32, segment).await;
    }
    let refused = door.seal(&short, &all[..30]).await.unwrap_err();
    assert!(["SEAL_DIGEST_MISMATCH", "SEAL_INCOMPLETE"].contains(&reason(&refused).as_str()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_segment_is_in_the_log_once_however_often_it_comes() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let bytes = bytes(1000);
    let recording = door.open("k", None).await;
    for _ in 0..3 {
        assert!(matches!(door.send(&recording, 0, &bytes).await, Outcome::Accepted(_)));
        // So that the next copy finds it held: the view follows the log.
        assert_eq!(door.held(&recording).await, [0]);
    }
    let mut records = 0;
    for partition in 0..bench.log.partitions(Topic::Footage) {
        let bounds = bench.log.bounds(Topic::Footage, partition).await.unwrap();
        records += bounds.end - bounds.start;
    }
    assert_eq!(records, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_metadata_is_refused_with_every_field() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let before = bench.facts().await;
    let request = proto::OpenUploadRequest {
        idempotency_key: "two words".into(),
        metadata: Some(proto::RecordingMetadata { source: 4, ..Default::default() }),
        size: Some(1),
    };
    let status = door.client.open_upload(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "METADATA_INVALID"));
    let details = status.get_error_details();
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    let expected = [
        "idempotency_key",
        "metadata.matter",
        "metadata.record_form",
        "metadata.unit",
        "metadata.officers",
        "metadata.original_name",
        "metadata.content_type",
        "metadata.device_id",
        "metadata.recorded_started_at",
        "metadata.recorded_ended_at",
    ];
    assert_eq!(fields, expected);
    // What each kind of source must say in addition; and of none of it anything is kept.
    let times = ["metadata.recorded_started_at", "metadata.recorded_ended_at"];
    let device = ["metadata.device_id", times[0], times[1]];
    for (source, missing) in [
        (proto::Source::StillCamera, &device[..]),
        (proto::Source::AudioRecorder, &device),
        (proto::Source::VideoCamera, &device),
        (proto::Source::BodyWornRecorder, &device),
        (proto::Source::FixedCamera, &["metadata.site", times[0], times[1]]),
        (proto::Source::InformationPlatform, &times),
        (proto::Source::Document, &["metadata.document_id"]),
    ] {
        let bare = proto::RecordingMetadata { source: source as i32, document_id: String::new(), ..metadata() };
        let request = proto::OpenUploadRequest { idempotency_key: "k".into(), metadata: Some(bare), size: Some(1) };
        let status = door.client.open_upload(request).await.unwrap_err();
        assert_eq!(reason(&status), "METADATA_INVALID", "{source:?}");
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, missing, "{source:?}");
    }
    assert_eq!(bench.facts().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_at_the_opening() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let before = bench.facts().await;
    assert_eq!(reason(&door.try_open("k", Some(0)).await.unwrap_err()), "RECORDING_EMPTY");
    let too_large = Some(10_000 * (16 << 20) + 1);
    assert_eq!(reason(&door.try_open("k", too_large).await.unwrap_err()), "RECORDING_TOO_LARGE");
    assert_eq!(bench.facts().await, before);
    assert_eq!(door.open("k", Some(10_000 * (16 << 20))).await.segment_size, 16 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_opening_of_the_same_recording_names_the_differences() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    door.open("k", Some(5)).await;
    let mut other = metadata();
    other.unit = "another".into();
    let request = proto::OpenUploadRequest { idempotency_key: "k".into(), metadata: Some(other), size: Some(6) };
    let status = door.client.open_upload(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "OPEN_CONFLICT"));
    let details = status.get_error_details();
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["metadata.unit", "size"]);
}

fn announcement(key: &str) -> proto::Announcement {
    proto::Announcement { idempotency_key: key.into(), metadata: Some(metadata()) }
}

impl Door {
    async fn announce(&mut self, recordings: Vec<proto::Announcement>) -> Result<Vec<String>, Status> {
        let request = proto::AnnounceRecordingsRequest { recordings };
        Ok(self.client.announce_recordings(request).await?.into_inner().recording_ids)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_in_the_log_once_and_opens_as_any_other() {
    let bench = Bench::new();
    let (mut first, mut second) = (bench.door("demo").await, bench.door("demo").await);
    let opened = first.open("opened", Some(3)).await;
    let before = bench.facts().await;
    let all = || ["a", "b", "opened", "a"].map(announcement).to_vec();
    let ids = first.announce(all()).await.unwrap();
    assert_eq!((ids.len(), &ids[2], &ids[3]), (4, &opened.recording_id, &ids[0]));
    assert_eq!(bench.facts().await, before + 2);
    // Through the other gateway as well: nothing new.
    assert_eq!(second.announce(all()).await.unwrap(), ids);
    assert_eq!(bench.facts().await, before + 2);
    // An announcement is no upload yet.
    let asked = second.client.get_upload(proto::GetUploadRequest { recording_id: ids[0].clone() }).await;
    assert_eq!(reason(&asked.unwrap_err()), "RECORDING_NOT_FOUND");
    let recording = second.open("a", Some(3)).await;
    assert_eq!((&recording.recording_id, recording.generation), (&ids[0], 0));
    assert!(matches!(second.send(&recording, 0, b"abc").await, Outcome::Accepted(_)));
    // Another bureau's announcements are its own.
    let mut other = bench.door("other").await;
    assert_ne!(other.announce(vec![announcement("a")]).await.unwrap(), ids[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_or_too_many_announcements_change_nothing() {
    let bench = Bench::new();
    let mut door = bench.door_with("demo", |c| c.announced_per_bureau = 2).await;
    let wrong =
        proto::Announcement { idempotency_key: "a b".into(), metadata: Some(proto::RecordingMetadata::default()) };
    let refused = door.announce(vec![announcement("a"), wrong]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "METADATA_INVALID"));
    let details = refused.get_error_details();
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    assert!(
        fields.contains(&"recordings[1].idempotency_key") && fields.contains(&"recordings[1].metadata.unit"),
        "{fields:?}"
    );
    for bad in [vec![], vec![announcement("a"); 501]] {
        assert_eq!(reason(&door.announce(bad).await.unwrap_err()), "METADATA_INVALID");
    }
    door.announce(["a", "b"].map(announcement).to_vec()).await.unwrap();
    let refused = door.announce(["a", "c"].map(announcement).to_vec()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUOTA"));
    // What is opened is announced no more.
    door.open("a", Some(3)).await;
    door.announce(vec![announcement("c")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bureaus_recording_looks_like_none() {
    let bench = Bench::new();
    let (mut ours, mut theirs) = (bench.door("ours").await, bench.door("theirs").await);
    let recording = theirs.open("k", None).await;
    theirs.send(&recording, 0, b"theirs").await;
    let unknown = "00000000-0000-8000-8000-000000000000".to_owned();
    let mut words = Vec::new();
    for id in [recording.recording_id.clone(), unknown, "no id".into()] {
        let get = proto::GetUploadRequest { recording_id: id.clone() };
        let status = ours.client.get_upload(get).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "RECORDING_NOT_FOUND"));
        words.push(status.message().to_owned());
        let foreign = proto::Recording { recording_id: id.clone(), ..recording.clone() };
        assert_eq!(reason(&ours.seal(&foreign, b"theirs").await.unwrap_err()), "RECORDING_NOT_FOUND");
        let abandon = proto::AbandonUploadRequest { recording_id: id };
        assert_eq!(reason(&ours.client.abandon_upload(abandon).await.unwrap_err()), "RECORDING_NOT_FOUND");
        assert_eq!(refused(&ours.send(&foreign, 0, b"ours").await).reason, "RECORDING_NOT_FOUND");
    }
    words.dedup();
    assert_eq!(words.len(), 1, "{words:?}");
    // The same key of two bureaus is two recordings.
    assert_ne!(ours.open("k", None).await.recording_id, recording.recording_id);
    assert_eq!(theirs.held(&recording).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_segments_are_refused_one_by_one_and_the_stream_goes_on() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let bytes = bytes(SEGMENT + 10);
    let recording = door.open("k", Some(bytes.len() as u64)).await;
    let (first, last) = bytes.split_at(SEGMENT);
    let mut wrong_value = header(&recording, 0, first);
    wrong_value.value = vec![7; 32].into();
    let mut beyond = header(&recording, 2, last);
    beyond.index = 2;
    let too_long = header(&recording, 1, &first[..11]);
    let mut old = header(&recording, 1, last);
    old.generation = 9;
    let contents = [
        segment(wrong_value, first),
        segment(beyond, last),
        segment(too_long, &first[..11]),
        segment(old, last),
        segment(header(&recording, 1, last), last),
    ];
    let outcomes = door.write(contents.concat()).await.unwrap();
    let reasons: Vec<_> = outcomes[..4].iter().map(|o| refused(o).reason.as_str()).collect();
    assert_eq!(reasons, ["SEGMENT_VALUE_MISMATCH", "SEGMENT_OUT_OF_RANGE", "SEGMENT_OUT_OF_RANGE", "UPLOAD_CLOSED"]);
    assert!(matches!(outcomes[4], Outcome::Accepted(_)));
    assert_eq!(door.held(&recording).await, [1]);
    // Held with another value.
    let mut other = last.to_vec();
    other[0] ^= 1;
    assert_eq!(refused(&door.send(&recording, 1, &other).await).reason, "SEGMENT_CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_out_of_order_is_ended_with_a_reason() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let recording = door.open("k", None).await;
    let head = Content::Header(header(&recording, 0, b"12345"));
    let chunk = |text: &'static str| Content::Chunk(text.into());
    for contents in [
        vec![chunk("12345")],
        vec![head.clone(), head.clone()],
        vec![head.clone(), chunk("123456")],
        vec![head.clone(), chunk("")],
        vec![head.clone(), chunk("123")],
    ] {
        assert_eq!(reason(&door.write(contents).await.unwrap_err()), "STREAM_INVALID");
    }
    assert!(door.held(&recording).await.is_empty());
}

/// Errors that arise before a request reaches the service's own code.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_with_a_reason() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let recording = door.open("k", None).await;
    let much = vec![7; (1 << 20) + (65 << 10)];
    let contents = vec![Content::Header(header(&recording, 0, &much)), Content::Chunk(much.clone().into())];
    let refused = door.write(contents).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "STREAM_INVALID"));
    assert!(refused.get_error_details().retry_info().is_none());

    let metadata = proto::RecordingMetadata { unit: "u".repeat(2 << 20), ..metadata() };
    let request = proto::OpenUploadRequest { idempotency_key: "large".into(), metadata: Some(metadata), size: Some(1) };
    let refused = door.client.open_upload(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REQUEST_INVALID"));

    let channel = Channel::from_shared(format!("http://{}", door.gateway.address)).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    let mut call = async |path| {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<proto::GetUploadRequest, proto::GetUploadResponse>::default();
        let request = tonic::Request::new(proto::GetUploadRequest { recording_id: "x".into() });
        client.unary(request, tonic::codegen::http::uri::PathAndQuery::from_static(path), codec).await.unwrap_err()
    };
    let unknown = call("/caselock.v1.IngestService/Nothing").await;
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::Unimplemented, "CALL_UNSUPPORTED"));
    // The field has the wrong type: text where a message should be.
    let unread = call("/caselock.v1.IngestService/AnnounceRecordings").await;
    assert_eq!((unread.code(), reason(&unread).as_str()), (Code::InvalidArgument, "REQUEST_INVALID"));
}

/// However many watches are opened, no more than there is memory for hold any.
#[tokio::test(flavor = "multi_thread")]
async fn watches_beyond_the_budget_are_refused_with_a_time() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let id = door.open("k", None).await.recording_id;
    let recording_ids: Vec<_> = (0..10_000u128).map(|n| format!("{}{n:08}", &id[..id.len() - 8])).collect();
    let mut watches = Vec::new();
    let refused = loop {
        assert!(watches.len() < 1000, "watches without end");
        let request = proto::WatchRecordingsRequest { recording_ids: recording_ids.clone() };
        match door.client.watch_recordings(request).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break refused,
        }
    };
    assert!(watches.len() > 5, "only {} watches", watches.len());
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "MEMORY_BUDGET"));
    assert!(refused.get_error_details().retry_info().is_some());
    drop(watches);
    let again = async {
        loop {
            let request = proto::WatchRecordingsRequest { recording_ids: recording_ids.clone() };
            if door.client.watch_recordings(request).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(180), again).await.expect("the watches' memory is given back");
}

/// Memory for so many bytes of segments.
fn memory(bytes: u64) -> impl FnOnce(&mut GatewayConfig) {
    move |c| {
        (c.connections, c.streams) = (8, 8);
        // Three windows of 680 KiB and 64 KiB a connection; of each stream and of 64 calls a message of at most 1 MiB + 64 KiB, and a frame of
        // 128 KiB behind it; 32 MiB for watches.
        let message = (1 << 20) + (64 << 10) + (128 << 10);
        c.memory_budget = bytes + 8 * ((3 * 680 + 64) << 10) + (8 + 64) * message + (32 << 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_leave_room_for_a_segment() {
    let mut config = GatewayConfig { plaintext_bureau: Some("demo".into()), ..GatewayConfig::default() };
    config.check().unwrap();
    memory(16 << 20)(&mut config);
    config.check().unwrap();
    config.memory_budget -= 1;
    assert!(config.check().unwrap_err().to_string().contains("gateway.memory_budget: expected at least"));
}

/// However many streams are opened, no more than there is memory for are read from.
#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_budget_are_refused_with_a_time() {
    let bench = Bench::new();
    let config = |c: &mut GatewayConfig| {
        c.streams = 4;
        c.bureau_share_percent = 50;
    };
    let mut door = bench.door_with("demo", config).await;
    let recording = door.open("k", None).await;
    let bytes = bytes(SEGMENT);
    let stalled = [stall(&mut door, &recording, 0, &bytes).await, stall(&mut door, &recording, 1, &bytes).await];
    let refused = loop {
        match door.write(segment(header(&recording, 2, &bytes), &bytes)).await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "MEMORY_BUDGET"));
    assert!(refused.get_error_details().retry_info().is_some());
    drop(stalled);
    let again = async { while door.write(segment(header(&recording, 3, &bytes), &bytes)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(180), again).await.expect("the streams' memory is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_refused_not_overrun() {
    let bench = Bench::new();
    let mut door = bench.door_with("demo", memory(16 << 20)).await;
    let recording = door.open("k", None).await;
    let bytes = bytes(SEGMENT);
    // Two segments that never end hold all there is.
    let mut stalled = Vec::new();
    for index in 0..2 {
        let contents = segment(header(&recording, index, &bytes), &bytes[..1 << 20]);
        let requests = contents.into_iter().map(|c| proto::WriteSegmentsRequest { content: Some(c) });
        let (sender, requests_stream) = tokio::sync::mpsc::channel(64);
        for request in requests {
            sender.send(request).await.unwrap();
        }
        let stream = tokio_stream::wrappers::ReceiverStream::new(requests_stream);
        stalled.push((sender, door.client.write_segments(stream).await.unwrap()));
    }
    // The stalled ones were admitted when a third is refused.
    let outcome = loop {
        match door.send(&recording, 2, &bytes).await {
            Outcome::Accepted(_) => {}
            refused => break refused,
        }
    };
    let refused = refused(&outcome);
    assert_eq!(refused.reason, "MEMORY_BUDGET");
    assert!(refused.retry_after.is_some());
    drop(stalled);
    let again = async { while !matches!(door.send(&recording, 3, &bytes).await, Outcome::Accepted(_)) {} };
    tokio::time::timeout(Duration::from_secs(180), again).await.expect("the memory is given back");
}

/// Begins a segment on a stream of its own, and sends no more of it.
async fn stall(door: &mut Door, recording: &proto::Recording, index: u32, bytes: &[u8]) -> Stalled {
    let contents = segment(header(recording, index, bytes), &bytes[..1 << 20]);
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    for content in contents {
        sender.send(proto::WriteSegmentsRequest { content: Some(content) }).await.unwrap();
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    (sender, door.client.write_segments(stream).await.unwrap().into_inner())
}

type Stalled = (tokio::sync::mpsc::Sender<proto::WriteSegmentsRequest>, tonic::Streaming<proto::WriteSegmentsResponse>);

#[tokio::test(flavor = "multi_thread")]
async fn one_bureau_cannot_take_all_memory() {
    let bench = Bench::new();
    let config = |c: &mut GatewayConfig| {
        memory(32 << 20)(c);
        c.bureau_share_percent = 50;
    };
    // One gateway knows one bureau here: both doors share the log, not the budget, so the share is seen on one.
    let mut door = bench.door_with("demo", config).await;
    let recording = door.open("k", None).await;
    let bytes = bytes(SEGMENT);
    let _stalled = [stall(&mut door, &recording, 0, &bytes).await, stall(&mut door, &recording, 1, &bytes).await];
    // Half of the budget is free, and not for this bureau.
    let outcome = loop {
        match door.send(&recording, 2, &bytes).await {
            Outcome::Accepted(_) => {}
            refused => break refused,
        }
    };
    assert_eq!(refused(&outcome).reason, "MEMORY_BUDGET");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bureau_cannot_fill_the_log() {
    let bench = Bench::new();
    let config = |c: &mut GatewayConfig| {
        c.backlog_cap = 10_000;
        c.bureau_share_percent = 20;
    };
    let mut demo = bench.door_with("demo", config).await;
    let recording = demo.open("k", None).await;
    assert!(matches!(demo.send(&recording, 0, &bytes(2000)).await, Outcome::Accepted(_)));
    assert_eq!(demo.held(&recording).await, [0]);
    assert_eq!(refused(&demo.send(&recording, 1, &bytes(1000)).await).reason, "BACKLOG_FULL");
    let mut other = bench.door_with("other", config).await;
    let theirs = other.open("k", None).await;
    assert!(matches!(other.send(&theirs, 0, &bytes(1000)).await, Outcome::Accepted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_trickles_in_is_ended_and_so_is_an_old_stream() {
    let bench = Bench::new();
    let mut door = bench.door_with("demo", |c| c.chunk_timeout_seconds = 1).await;
    let recording = door.open("k", None).await;
    let (_sender, mut answers) = stall(&mut door, &recording, 0, &bytes(2 << 20)).await;
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SEGMENT_LATE"));
    assert!(status.get_error_details().retry_info().is_some());
    let mut door = bench.door_with("demo", |c| c.stream_life_seconds = 1).await;
    let (_sender, requests) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = door.client.write_segments(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_is_refused_with_a_time() {
    let bench = Bench::new();
    let mut door = bench.door_with("demo", |c| c.backlog_cap = 1500).await;
    let recording = door.open("k", None).await;
    assert!(matches!(door.send(&recording, 0, &bytes(1000)).await, Outcome::Accepted(_)));
    assert_eq!(door.held(&recording).await, [0]);
    let outcome = door.send(&recording, 1, &bytes(1000)).await;
    assert_eq!(refused(&outcome).reason, "BACKLOG_FULL");
    assert!(refused(&outcome).retry_after.is_some());
    // What is held already is acknowledged again all the same.
    assert!(matches!(door.send(&recording, 0, &bytes(1000)).await, Outcome::Accepted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bureau_may_not_open_without_end() {
    let bench = Bench::new();
    let mut door = bench.door_with("demo", |c| c.open_uploads_per_bureau = 2).await;
    door.open("a", None).await;
    door.open("b", None).await;
    let status = door.try_open("c", None).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUOTA"));
    assert!(status.get_error_details().retry_info().is_some());
    assert_eq!(bench.door("other").await.open("c", None).await.state(), RecordingState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_what_is_and_what_changes() {
    use proto::watch_recordings_response::Content as Watched;
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let known = door.open("known", None).await;
    let mut watch = door.client.watch_recordings(proto::WatchRecordingsRequest::default()).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().unwrap().content.unwrap();
    let Watched::Change(change) = next().await else { panic!() };
    assert_eq!(change.recording.unwrap().recording_id, known.recording_id);
    assert!(matches!(next().await, Watched::SnapshotEnd(_)));
    let mut other = bench.door("other").await;
    other.open("theirs", None).await;
    let new = door.open("new", None).await;
    let Watched::Change(change) = next().await else { panic!() };
    assert_eq!(change.recording.unwrap().recording_id, new.recording_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_open_streams_end_and_takes_no_more() {
    let bench = Bench::new();
    let mut door = bench.door("demo").await;
    let recording = door.open("k", None).await;
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = door.client.write_segments(stream).await.unwrap().into_inner();
    for content in segment(header(&recording, 0, b"first"), b"first") {
        sender.send(proto::WriteSegmentsRequest { content: Some(content) }).await.unwrap();
    }
    let first = answers.message().await.unwrap().unwrap().outcome;
    assert!(matches!(first, Some(Outcome::Accepted(_))));
    // What is asked on a connection that is still there gets a reason, and a time.
    let mut late = door.client.clone();
    let asking = tokio::spawn(async move {
        loop {
            match late.get_upload(proto::GetUploadRequest { recording_id: "x".into() }).await {
                Err(status) if status.code() == Code::Unavailable => return status,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    door.stop.cancel();
    let refused = asking.await.unwrap();
    // Whether the call still gets in is between the two of them; if it does, it is told.
    if let Some(info) = refused.get_error_details().error_info() {
        assert_eq!(info.reason, "DRAINING");
        assert!(refused.get_error_details().retry_info().is_some());
    }
    // The stream ends cleanly: the client opens the next one, elsewhere.
    assert_eq!(answers.message().await.unwrap(), None);
    tokio::time::timeout(Duration::from_secs(180), door.gateway.stopped()).await.unwrap().unwrap();
    assert!(door.client.get_upload(proto::GetUploadRequest { recording_id: recording.recording_id }).await.is_err());
}
