//! One stream of segments: what is missing is read, sent and acknowledged; what is held is read and compared.

use std::collections::{BTreeSet, HashMap, VecDeque};

use caselock_domain::{
    digest::{SegmentDigest, SegmentValue, segment_digest},
    id::RecordingId,
    reason::Reason,
    shape::Shape,
};
use caselock_proto::v1::{self as proto, write_segments_request::Content, write_segments_response::Outcome};
use futures::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Client, Footage, Progress, Throttle, UploadError,
    retry::spread,
    upload::{Report, Upload},
};

/// Streams that carry one file at once, where it has enough segments for them.
const STREAMS: usize = 2;
/// How long the first segments may take where the link is fast enough for several streams.
const FAST: Duration = Duration::from_secs(30);
/// Segments of one stream that may be on their way at once.
const IN_FLIGHT: usize = 2;
/// The chunks segments are sent in: small enough to come through a slow link in time.
const CHUNK: usize = 256 << 10;
/// How many segments of one stream may be damaged on their way before that is an error.
const DAMAGED: u32 = 8;
/// Messages that may wait for the network.
const MESSAGES: usize = 4;

/// The segments of a file in one generation.
#[derive(Clone)]
pub struct Segments {
    pub recording: RecordingId,
    pub generation: u32,
    pub shape: Shape,
    pub size: u64,
    /// What the gateway holds.
    pub held: HashMap<u32, SegmentValue>,
    /// What was read of the file, by index.
    pub digests: Vec<Option<SegmentDigest>>,
    /// Whether the link was found fast enough for several streams.
    pub is_fast: bool,
}

/// How a stream ended.
pub enum Ended {
    /// Everything is held, and everything was read.
    Complete,
    /// The gateway ended the stream: open the next.
    Next,
    /// The upload takes no more in this generation: ask how it stands.
    Closed,
}

impl Segments {
    fn missing(&self) -> VecDeque<u32> {
        (0..self.shape.segments_of(self.size)).filter(|i| !self.held.contains_key(i)).collect()
    }

    /// Takes over what another stream of the same file read and brought.
    fn merge(&mut self, other: Self) -> Result<(), UploadError> {
        for (index, digest) in (0..).zip(other.digests) {
            if let Some(digest) = digest {
                self.note(index, digest)?;
            }
        }
        self.held.extend(other.held);
        Ok(())
    }

    /// Notes what was read. Every read of a segment must give the same.
    fn note(&mut self, index: u32, digest: SegmentDigest) -> Result<(), UploadError> {
        if self.held.get(&index).is_some_and(|held| *held != digest.value) {
            return Err(UploadError::Changed);
        }
        match &mut self.digests[index as usize] {
            Some(known) if *known != digest => Err(UploadError::Changed),
            place => {
                *place = Some(digest);
                Ok(())
            }
        }
    }
}

/// Reads the segments that are held but were not read yet, so that the whole digest is the file's own.
pub async fn read_held(file: &Footage, segments: &mut Segments) -> Result<(), UploadError> {
    for index in 0..segments.shape.segments_of(segments.size) {
        if segments.held.contains_key(&index) && segments.digests[index as usize].is_none() {
            let (_, digest) = read(file, segments.shape, segments.size, index).await?;
            segments.note(index, digest)?;
        }
    }
    Ok(())
}

/// The digest of a segment of the file, as it is now.
pub async fn digest(file: &Footage, segments: &Segments, index: u32) -> Result<SegmentDigest, UploadError> {
    Ok(read(file, segments.shape, segments.size, index).await?.1)
}

async fn read(
    file: &Footage,
    shape: Shape,
    size: u64,
    index: u32,
) -> Result<(bytes::Bytes, SegmentDigest), UploadError> {
    let offset = u64::from(index) * u64::from(shape.segment_size);
    let bytes = file.read(offset, shape.length_of(size, index) as usize).await?;
    let digest = segment_digest(index, shape.segment_size, &bytes).ok_or(UploadError::Changed)?;
    Ok((bytes, digest))
}

/// What the reading side tells.
type ReadResult = Result<(u32, SegmentDigest), UploadError>;

/// Sends what is missing, over several streams. What each of them brought counts, however the others ended.
pub async fn send(
    client: &Client,
    upload: &Upload<'_>,
    file: &Footage,
    segments: &mut Segments,
) -> Result<Ended, UploadError> {
    let mut missing = segments.missing();
    if !segments.is_fast && missing.len() > IN_FLIGHT {
        // One stream, until it is known that the link is not so slow that several would only be in each other's way.
        let first = missing.drain(..IN_FLIGHT).collect();
        let began = Instant::now();
        match send_over_one(client, upload, file, segments, first).await? {
            Ended::Complete => segments.is_fast = began.elapsed() < FAST,
            other => return Ok(other),
        }
    }
    let streams = if segments.is_fast { (missing.len() / IN_FLIGHT).clamp(1, STREAMS) } else { 1 };
    let mut lanes = vec![VecDeque::new(); streams];
    for (index, lane) in missing.into_iter().zip((0..streams).cycle()) {
        lanes[lane].push_back(index);
    }
    let lanes = lanes.into_iter().map(|pending| {
        let mut own = segments.clone();
        async move { (send_over_one(client, upload, file, &mut own, pending).await, own) }
    });
    let mut ended = Ok(Ended::Complete);
    for (lane, own) in join_all(lanes).await {
        segments.merge(own)?;
        ended = match (ended, lane) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Ended::Closed), _) | (_, Ok(Ended::Closed)) => Ok(Ended::Closed),
            (Ok(Ended::Next), _) | (_, Ok(Ended::Next)) => Ok(Ended::Next),
            (Ok(Ended::Complete), Ok(Ended::Complete)) => Ok(Ended::Complete),
        };
    }
    ended
}

/// Sends these segments over one stream.
async fn send_over_one(
    client: &Client,
    upload: &Upload<'_>,
    file: &Footage,
    segments: &mut Segments,
    mut pending: VecDeque<u32>,
) -> Result<Ended, UploadError> {
    if pending.is_empty() {
        return Ok(Ended::Complete);
    }
    // The semaphore is never closed.
    let _turn = client.streams.acquire().await;
    let (requests, outgoing) = mpsc::channel(MESSAGES);
    let (orders, to_read) = mpsc::channel(IN_FLIGHT);
    let (results, mut read_results) = mpsc::channel::<ReadResult>(IN_FLIGHT);
    let mut ingest = client.ingest().ok_or_else(no_server)?;
    let reader = Reader {
        file: file.clone(),
        recording: segments.recording.to_string(),
        generation: segments.generation,
        shape: segments.shape,
        size: segments.size,
        requests,
    };
    let throttle = upload.throttle.clone();
    let _reading = AbortOnDrop(tokio::spawn(reader.run(to_read, results, throttle)));

    // The first segments are read and sent while the stream is being opened: on a long link that takes as long as a segment.
    let mut outstanding: BTreeSet<_> = pending.drain(..pending.len().min(IN_FLIGHT)).collect();
    for index in &outstanding {
        // There is room for so many.
        let _ = orders.try_send(*index);
    }
    let mut answers = ingest.write_segments(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut not_before = Instant::now();
    let mut damaged = 0;
    loop {
        if pending.is_empty() && outstanding.is_empty() {
            return Ok(Ended::Complete);
        }
        let may_order = !pending.is_empty() && outstanding.len() < IN_FLIGHT;
        tokio::select! {
            // What the reader says of the file counts before what the gateway makes of its silence.
            biased;
            Some(read) = read_results.recv() => {
                let (index, digest) = read?;
                segments.note(index, digest)?;
            }
            answer = answers.message() => {
                let Some(outcome) = answer?.and_then(|answer| answer.outcome) else { return Ok(Ended::Next) };
                match outcome {
                    Outcome::Accepted(accepted) => {
                        if !outstanding.remove(&accepted.index) {
                            continue;
                        }
                        // What was read is told before it is sent, but the answer may be looked at first.
                        let digest = loop {
                            if let Some(digest) = segments.digests[accepted.index as usize] {
                                break digest;
                            }
                            let Some(read) = read_results.recv().await else { return Ok(Ended::Next) };
                            let (index, digest) = read?;
                            segments.note(index, digest)?;
                        };
                        segments.held.insert(accepted.index, digest.value);
                        let length = segments.shape.length_of(segments.size, accepted.index);
                        (upload.report)(Progress::Held(u64::from(length)));
                    }
                    Outcome::Refused(refused) => {
                        damaged += u32::from(refused.reason == Reason::SegmentValueMismatch.as_str());
                        let delay = take_back(&refused, damaged, upload.report)?;
                        let Some(delay) = delay else { return Ok(Ended::Closed) };
                        if outstanding.remove(&refused.index) {
                            pending.push_back(refused.index);
                        }
                        not_before = Instant::now() + delay;
                    }
                }
            }
            // `reserve` first, so that an index is taken only when it can be given away. Where the reader has ended, the answers say why.
            Ok(permit) = async { sleep_until(not_before).await; orders.reserve().await }, if may_order => {
                if let Some(index) = pending.pop_front() {
                    outstanding.insert(index);
                    permit.send(index);
                }
            }
        }
    }
}

/// What a refusal means: `Some` delay, then the segment goes again; `None`, the upload is closed; or an error.
fn take_back(
    refused: &proto::SegmentRefused,
    damaged: u32,
    report: Report<'_>,
) -> Result<Option<Duration>, UploadError> {
    match Reason::parse(&refused.reason) {
        Some(Reason::UploadClosed) => return Ok(None),
        // Damaged on its way: it is read and sent again.
        Some(Reason::SegmentValueMismatch) if damaged <= DAMAGED => return Ok(Some(Duration::ZERO)),
        _ => {}
    }
    match &refused.retry_after {
        Some(delay) => {
            let delay = spread(Duration::try_from(*delay).unwrap_or_default());
            report(Progress::Waiting { reason: refused.reason.clone(), delay });
            Ok(Some(delay))
        }
        None => Err(UploadError::Refused {
            reason: refused.reason.clone(),
            message: refused.message.clone(),
            fields: Vec::new(),
        }),
    }
}

pub fn no_server() -> UploadError {
    UploadError::Refused { reason: "NO_SERVER".into(), message: "name a server".into(), fields: Vec::new() }
}

struct Reader {
    file: Footage,
    recording: String,
    generation: u32,
    shape: Shape,
    size: u64,
    requests: mpsc::Sender<proto::WriteSegmentsRequest>,
}

impl Reader {
    /// Reads and sends segments in the order they are asked for. Ends with the stream, or after an error.
    async fn run(
        self,
        mut orders: mpsc::Receiver<u32>,
        results: mpsc::Sender<ReadResult>,
        throttle: std::sync::Arc<Throttle>,
    ) {
        while let Some(index) = orders.recv().await {
            let (bytes, digest) = match read(&self.file, self.shape, self.size, index).await {
                Ok(read) => read,
                Err(error) => return drop(results.send(Err(error)).await),
            };
            // Noted before it is sent: the acknowledgement may be faster than anything else.
            if results.send(Ok((index, digest))).await.is_err() {
                return;
            }
            let header = proto::SegmentHeader {
                recording_id: self.recording.clone(),
                generation: self.generation,
                index,
                length: bytes.len() as u32,
                value: digest.value.0.to_vec().into(),
            };
            let chunks = (0..bytes.len()).step_by(CHUNK);
            let chunks = chunks.map(|at| Content::Chunk(bytes.slice(at..bytes.len().min(at + CHUNK))));
            for content in std::iter::once(Content::Header(header)).chain(chunks) {
                if let Content::Chunk(chunk) = &content {
                    throttle.take(chunk.len()).await;
                }
                if self.requests.send(proto::WriteSegmentsRequest { content: Some(content) }).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
