//! One segment: checked, put into the log, acknowledged.

use bytes::{Bytes, BytesMut};
use caselock_domain::{
    digest::{SegmentDigest, SegmentHasher, SegmentValue},
    fact::{Acknowledged, Fact, FactKey, Subject},
    footage::SegmentRef,
    id::BureauId,
    reason::Reason,
    shape::MAX_CHUNK,
    state::Phase,
};
use caselock_log::{Record, Topic};
use caselock_proto::v1 as proto;
use caselock_runtime::trace::{self, TRACEPARENT};

use super::{Ingest, answer, recording_id};
use caselock_front::Refusal;

/// A segment whose header was found right.
pub struct Announced {
    pub segment: SegmentRef,
    pub length: u32,
    segment_size: u32,
    /// Held with the same value: its bytes are read past, and it is acknowledged again.
    pub is_held: bool,
}

/// A segment as its bytes come.
pub struct Arriving {
    announced: Announced,
    /// Boxed: it is larger than everything else of a segment in hand.
    hasher: Box<SegmentHasher>,
    bytes: BytesMut,
}

/// A segment that is whole and has the value it was announced with.
pub struct Whole {
    pub segment: SegmentRef,
    bytes: Bytes,
    digest: SegmentDigest,
}

impl Ingest {
    /// Checks a header against what is known of the recording. Nothing is read before that.
    pub async fn announce(&self, bureau: &BureauId, header: &proto::SegmentHeader) -> Result<Announced, Refusal> {
        let recording = recording_id(&header.recording_id)?;
        let value = header.value[..].try_into();
        let value = value.map_err(|_| Refusal::field(Reason::SegmentValueMismatch, "header.value", "32 bytes"))?;
        let segment =
            SegmentRef { recording, generation: header.generation, index: header.index, value: SegmentValue(value) };
        let known = self.view.find(bureau, recording, |facts| {
            let opened = facts.opened();
            let held = facts.now().and_then(|g| g.held(segment.index));
            (facts.phase(), facts.current(), opened.map(|o| o.shape), held)
        });
        let (phase, generation, shape, held) = known.await?;
        if phase != Some(Phase::Open) || generation != segment.generation {
            return Err(answer::closed(&format!("it is {phase:?} in generation {generation}")));
        }
        let shape = shape.ok_or_else(Refusal::not_found)?;
        if !shape.admits(segment.index, header.length) {
            let expected = match shape.size {
                Some(size) => format!(
                    "an index below {} and a length of {} bytes",
                    shape.segments_of(size),
                    shape.length_of(size, segment.index)
                ),
                None => format!("an index below 10,000 and a length of 1 to {} bytes", shape.segment_size),
            };
            return Err(Refusal::field(Reason::SegmentOutOfRange, "header.index, header.length", expected));
        }
        if held.is_some_and(|held| held != segment.value) {
            let message = "the segment is held with another value: the file changed, or two files have one key";
            return Err(Refusal::new(Reason::SegmentConflict, message));
        }
        if held.is_none() {
            self.check_backlog(bureau)?;
        }
        let is_held = held.is_some();
        Ok(Announced { segment, length: header.length, segment_size: shape.segment_size, is_held })
    }

    fn check_backlog(&self, bureau: &BureauId) -> Result<(), Refusal> {
        let (usage, backlog) = self.view.usage(bureau);
        let share = self.config.backlog_cap / 100 * u64::from(self.config.bureau_share_percent.min(100));
        if backlog >= self.config.backlog_cap || usage.backlog >= share {
            return Err(Refusal::new(Reason::BacklogFull, "the log holds as much as it may: the archiver is behind"));
        }
        Ok(())
    }

    /// Puts a segment into the log, then its acknowledgement. When this returns, both are durable.
    pub async fn store(&self, bureau: &BureauId, whole: Whole) -> Result<(), Refusal> {
        let Whole { segment, bytes, digest } = whole;
        let partition = self.view.partition(segment.recording);
        let length = bytes.len() as u32;
        let mut record =
            Record { key: segment.recording.to_string().into(), headers: segment.headers(), payload: Some(bytes) };
        if let Some(traceparent) = trace::traceparent() {
            record = record.header(TRACEPARENT, traceparent);
        }
        let footage_offset = self.log.append(Topic::Footage, partition, record).await?;
        let key = FactKey {
            recording: segment.recording,
            generation: segment.generation,
            subject: Subject::Acknowledged(segment.index, segment.value),
        };
        let fact =
            Fact::Acknowledged(Acknowledged { length, footage_offset, root: digest.root, at: Some((self.clock)()) });
        self.view.record(&key, &fact).await?;
        self.metrics.accepted(bureau, u64::from(length));
        Ok(())
    }
}

impl Announced {
    /// Begins to take the bytes. Their memory must have been admitted.
    pub fn arriving(self) -> Arriving {
        let hasher = Box::new(SegmentHasher::new(self.segment.index, self.segment_size));
        Arriving { bytes: BytesMut::with_capacity(self.length as usize), hasher, announced: self }
    }
}

impl Arriving {
    /// Takes a chunk. `Ok` with the segment once it is whole.
    pub fn take(mut self, chunk: &[u8]) -> Result<Progress, Refusal> {
        let length = self.announced.length as usize;
        if chunk.is_empty() || chunk.len() > MAX_CHUNK || self.bytes.len() + chunk.len() > length {
            let expected = "chunks of 1 byte to 1 MiB, together as long as the header says";
            return Err(Refusal::field(Reason::StreamInvalid, "chunk", expected));
        }
        self.hasher.update(chunk);
        self.bytes.extend_from_slice(chunk);
        if self.bytes.len() < length {
            return Ok(Progress::More(self));
        }
        let segment = self.announced.segment;
        match self.hasher.finish() {
            Some(digest) if digest.value == segment.value => {
                Ok(Progress::Whole(Whole { segment, bytes: self.bytes.freeze(), digest }))
            }
            _ => Ok(Progress::Mismatch(segment)),
        }
    }
}

/// How far a segment has come.
pub enum Progress {
    /// Chunks are missing.
    More(Arriving),
    /// All there, and right.
    Whole(Whole),
    /// All there, and not what was announced.
    Mismatch(SegmentRef),
}
