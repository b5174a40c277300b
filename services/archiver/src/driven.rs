//! A recording as its partition drives it: its facts, its segments in hand, and where each of them goes next.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use caselock_domain::{
    footage::SegmentRef,
    object_key,
    state::{Phase, RecordingFacts},
};
use caselock_log::Offset;
use caselock_runtime::trace::TRACEPARENT;
use tokio::time::Instant;

use crate::steps::Segment;

/// A recording and what is being done about it.
#[derive(Default)]
pub struct Driven {
    pub facts: RecordingFacts,
    /// A step is running.
    pub busy: bool,
    /// Facts before this offset must be in the view before the next step is decided.
    pub settled_at: Offset,
    pub rests_until: Option<Instant>,
    pub waiting: Vec<Segment>,
    pub uploading: BTreeSet<u32>,
    /// Parts whose facts are durable, but not in the view yet.
    pub stored: BTreeSet<(u32, u32)>,
    pub doomed: Option<(u32, &'static str)>,
    /// How often a step or a part of it failed since a step last succeeded, while the store took other uploads.
    pub failures: u32,
    /// When the last of them was.
    pub failed_at: Option<Instant>,
    /// The traces that segments came with, the last of them: for the steps that follow.
    pub traces: Vec<Bytes>,
}

/// As many traces are kept.
const TRACES: usize = 32;

/// After how many failures, one every half minute or, where trying again may help, every minute and a half, a recording's
/// segments give way to others'.
const GIVE_WAY: u32 = 10;
/// How long a segment that may be the whole recording waits for the seal: what comes after it in the log waits as well.
const SEAL_COMES_WITHIN: Duration = Duration::from_millis(500);

/// Where a segment goes.
pub enum Place {
    /// Out of the others' way: it is asked for again once the recording's step succeeds.
    GiveWay,
    /// Nothing more to do with it.
    Done,
    /// Not yet: a claim, a part in hand, or the next generation must come first.
    Wait,
    /// Now.
    Store { key: String, segment_size: u32, multipart_id: String },
}

impl Driven {
    /// Why the generation can't be finished, if an acknowledged segment is neither a part nor still to come.
    pub fn lost(&self, head: Offset) -> Option<&'static str> {
        if !matches!(self.facts.phase(), Some(Phase::Open | Phase::Sealed)) {
            return None;
        }
        let now = self.facts.now()?;
        if now.completion().is_some() || now.backlog() == 0 {
            return None;
        }
        now.unstored().any(|(_, offset)| offset < head).then_some("FOOTAGE_LOST")
    }

    /// Where a segment goes next.
    pub fn place(&self, segment: &Segment) -> Place {
        let SegmentRef { recording, generation, index, value } = segment.segment;
        let facts = &self.facts;
        let (Some(now), Some(opened)) = (facts.now(), facts.opened()) else { return Place::Wait };
        let current = facts.current();
        if generation < current
            || !matches!(facts.phase(), Some(Phase::Open | Phase::Sealed))
            || now.completion().is_some()
        {
            return Place::Done;
        }
        if self.failures >= GIVE_WAY {
            return Place::GiveWay;
        }
        if generation > current || self.is_in_hand(generation, index) || self.doomed.is_some() || self.rests() {
            return Place::Wait;
        }
        // A part of this index is there. With this value it is this segment; with another, either nobody was told that this
        // one is held, or the acknowledgement will show the conflict.
        if now.has_part(index) {
            return Place::Done;
        }
        match now.claim() {
            // The same holds where there will be no parts.
            None if now.seal().is_some_and(|(_, size)| opened.shape.is_one_segment(size))
                && now.held(index) != Some(value) =>
            {
                Place::Done
            }
            None => Place::Wait,
            Some((id, _)) => Place::Store {
                key: object_key::original(&opened.bureau, recording, generation),
                segment_size: opened.shape.segment_size,
                multipart_id: id.to_owned(),
            },
        }
    }

    /// Keeps a segment's trace.
    pub fn trace(&mut self, segment: &Segment) {
        let Some(traceparent) = segment.entry.record.header_value(TRACEPARENT) else { return };
        if self.traces.contains(traceparent) {
            return;
        }
        if self.traces.len() == TRACES {
            self.traces.remove(0);
        }
        self.traces.push(traceparent.clone());
    }

    fn is_in_hand(&self, generation: u32, index: u32) -> bool {
        self.uploading.contains(&index) || self.stored.contains(&(generation, index))
    }

    /// Whether a segment waits longer for the seal than it may.
    pub fn seal_is_late(&self) -> bool {
        self.waiting.iter().any(|segment| segment.since.elapsed() >= SEAL_COMES_WITHIN)
    }

    /// Where among the segments that wait the first one is, as it was acknowledged.
    pub fn first(&self) -> Option<usize> {
        let value = self.facts.now()?.held(0)?;
        let is_first = |segment: &SegmentRef| {
            segment.generation == self.facts.current() && segment.index == 0 && segment.value == value
        };
        self.waiting.iter().position(|waiting| is_first(&waiting.segment))
    }

    /// Notes that facts before `at` must be in the view first; says whether they are still to come.
    pub fn settles(&mut self, at: Offset, read: Offset) -> Option<Offset> {
        self.settled_at = self.settled_at.max(at);
        (at > read).then_some(at)
    }

    /// Whether it rests after a failure.
    pub fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
}
