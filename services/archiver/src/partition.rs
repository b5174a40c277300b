//! One partition: its recordings' facts, the segments that are being worked on, and the contiguous head.
//!
//! A single task owns all of it. Work that waits for the log or the store runs beside it and comes back as a [`Done`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use caselock_domain::{fact, footage::SegmentRef, id::RecordingId, state::Phase};
use caselock_log::{Commits, Entry, LogError, Offset, Topic};
use caselock_runtime::{process_span, trace};
use jiff::SignedDuration;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    driven::{Driven, Place},
    plan::{self, Circumstances, Step},
    progress::{Commit, Committer, Progress},
    retry::{WorkError, until_done},
    steps::{Job, Outcome, PartOutcome, Segment, Worker},
};

/// How often the head is committed, and lost segments are looked for.
const TICK: Duration = Duration::from_millis(500);
/// How often every recording is looked at for what time alone brings.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a step that failed for good rests before it is tried again.
const REST: Duration = Duration::from_secs(30);
/// Failures so long ago say nothing any more, once a part was stored.
const LONG_AGO: Duration = Duration::from_secs(600);
/// How long the work in hand may take when the partition is taken away.
const DRAIN: Duration = Duration::from_secs(5);

/// What a partition is told.
pub enum Input {
    /// A record of `uploads`.
    Fact(Entry),
    /// `uploads` was read up to here.
    End(Offset),
    /// A segment of `footage`.
    Segment(Segment),
    /// A record of `footage` that is no segment: its dead letter is due.
    Malformed(Entry, OwnedSemaphorePermit, &'static str),
}

/// What a partition is given when it begins.
pub struct Setup {
    pub number: u32,
    pub epoch: u64,
    pub position: Offset,
    pub group: &'static str,
    pub worker: Arc<Worker>,
    pub commits: Arc<dyn Commits>,
    pub abandon_after: SignedDuration,
    pub keep_facts: SignedDuration,
}

impl Setup {
    fn committer(&self) -> Committer {
        Committer {
            log: self.worker.log.clone(),
            commits: self.commits.clone(),
            group: self.group,
            epoch: self.epoch,
            partition: self.number,
        }
    }
}

struct Partition {
    setup: Setup,
    recordings: HashMap<RecordingId, Driven>,
    /// Recordings to look at when `uploads` has been read so far: a step may have written to the very end, and then nothing
    /// more comes to wake them.
    settling: BTreeSet<(Offset, RecordingId)>,
    /// How far `uploads` has been read.
    read: Offset,
    progress: Progress,
    /// Segments of recordings or generations the view does not know yet.
    undecided: Vec<Segment>,
    round: Option<Round>,
    /// Set after the first round: before it, facts may be missing.
    driving: bool,
    tasks: JoinSet<Done>,
}

/// A look that must see everything written before it: the end of `uploads` is asked, and the look waits for the view to
/// be there.
struct Round {
    /// Segments before this offset are done with: what is acknowledged there and no part is lost.
    head: Offset,
    /// So many of the undecided segments came before the question.
    undecided: usize,
    end: Option<Offset>,
}

enum Done {
    /// With whether a failure is the recording's own, and not the store's.
    Part {
        id: RecordingId,
        segment: Segment,
        result: Result<PartOutcome, WorkError>,
        is_its_own: bool,
    },
    /// Likewise.
    Step {
        id: RecordingId,
        generation: u32,
        /// The segment it worked with.
        segment: Option<Segment>,
        result: Result<Outcome, WorkError>,
        is_its_own: bool,
    },
    /// Written, of this record, which counts as held until then.
    DeadLetter {
        entry: Entry,
        permit: OwnedSemaphorePermit,
    },
    End(Offset),
    Committed(Result<Commit, LogError>),
}

/// Drives a partition until `stop`, then drains, commits, and returns.
pub async fn drive(setup: Setup, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
    let position = setup.position;
    let mut partition = Partition {
        setup,
        recordings: HashMap::new(),
        settling: BTreeSet::new(),
        read: 0,
        progress: Progress::new(position, Instant::now()),
        undecided: Vec::new(),
        round: None,
        driving: false,
        tasks: JoinSet::new(),
    };
    partition.begin_round();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = interval(SWEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = partition.tasks.join_next() => match done {
                Ok(done) => partition.done(done),
                Err(error) => {
                    // A bug. The partition ends here, uncommitted; the service joins again and does it anew.
                    tracing::error!(%error, "work on a partition panicked");
                    return;
                }
            },
            input = inputs.recv() => match input {
                Some(input) => partition.take(input),
                None => break,
            },
            _ = tick.tick() => partition.tick(),
            _ = sweep.tick() => partition.sweep(),
        }
    }
    partition.drain().await;
}

impl Partition {
    fn take(&mut self, input: Input) {
        match input {
            Input::Fact(entry) => self.fact(entry),
            Input::End(position) => self.read_to(position),
            Input::Segment(segment) => {
                self.progress.begin(segment.entry.offset);
                self.segment(segment);
            }
            Input::Malformed(entry, permit, header) => {
                self.progress.begin(entry.offset);
                tracing::error!(header, offset = entry.offset, "a record of footage is no segment");
                self.dead_letter(entry, permit, "FOOTAGE_MALFORMED");
            }
        }
    }

    fn fact(&mut self, entry: Entry) {
        let Entry { offset, record, .. } = entry;
        match fact::decode(&record.key, record.payload.as_deref()) {
            Ok((key, fact)) => {
                self.recordings.entry(key.recording).or_default().facts.apply(&key, offset, fact);
                self.read_to(offset + 1);
                self.evaluate(key.recording);
            }
            Err(error) => {
                tracing::error!(%error, offset, "a record of uploads can't be read");
                self.read_to(offset + 1);
            }
        }
    }

    fn read_to(&mut self, position: Offset) {
        self.read = self.read.max(position);
        if self.round.as_ref().is_some_and(|round| round.end.is_some_and(|end| self.read >= end)) {
            self.finish_round();
        }
        while let Some(&(at, id)) = self.settling.first()
            && at <= self.read
        {
            self.settling.pop_first();
            self.evaluate(id);
        }
    }

    /// Begins a round, unless one is under way.
    fn begin_round(&mut self) {
        if self.round.is_some() {
            return;
        }
        self.round = Some(Round { head: self.progress.position(), undecided: self.undecided.len(), end: None });
        self.ask_end();
    }

    fn ask_end(&mut self) {
        let (worker, number) = (self.setup.worker.clone(), self.setup.number);
        self.tasks.spawn(async move {
            loop {
                let ask = || async { Ok(worker.log.end(Topic::Uploads, number).await?) };
                match until_done("end-of-uploads", ask).await {
                    Ok(end) => return Done::End(end),
                    Err(error) => tracing::error!(%error, number, "can't ask the end of uploads; asking again"),
                }
                tokio::time::sleep(REST).await;
            }
        });
    }

    fn finish_round(&mut self) {
        let Some(round) = self.round.take() else { return };
        let decided: Vec<_> = self.undecided.drain(..round.undecided).collect();
        let first = !std::mem::replace(&mut self.driving, true);
        // Not all, but at the first time: most have been done with for long, and rounds are many.
        let mut changed = BTreeSet::new();
        if first {
            changed.extend(self.recordings.keys().copied());
        }
        for segment in decided {
            let id = segment.segment.recording;
            let generation = segment.segment.generation;
            let known = |d: &&mut Driven| d.facts.phase().is_some() && generation <= d.facts.current();
            match self.recordings.get_mut(&id).filter(known) {
                Some(driven) => {
                    driven.waiting.push(segment);
                    changed.insert(id);
                }
                None => {
                    // Nothing in the log speaks of this generation: never opened, or stored and forgotten long ago.
                    self.dead_letter(segment.entry, segment.permit, "RECORDING_UNKNOWN");
                }
            }
        }
        for (id, driven) in &mut self.recordings {
            if let Some(reason) = driven.lost(round.head) {
                tracing::error!(recording = %id, "an acknowledged segment is not in the log any more");
                driven.doomed.get_or_insert((driven.facts.current(), reason));
                changed.insert(*id);
            }
        }
        for id in changed {
            self.evaluate(id);
        }
        if first || !self.undecided.is_empty() {
            self.tick();
        }
    }

    fn segment(&mut self, segment: Segment) {
        let SegmentRef { recording, generation, .. } = segment.segment;
        let known = self.recordings.get_mut(&recording);
        let known = known.filter(|d| d.facts.phase().is_some() && generation <= d.facts.current());
        match known {
            Some(driven) if self.driving => {
                driven.waiting.push(segment);
                self.evaluate(recording);
            }
            _ => {
                self.undecided.push(segment);
                self.begin_round();
            }
        }
    }

    fn dead_letter(&mut self, entry: Entry, permit: OwnedSemaphorePermit, reason: &'static str) {
        let worker = self.setup.worker.clone();
        self.tasks.spawn(async move {
            // Never dropped silently: until it is written, the head stands.
            while let Err(error) = worker.dead_letter(&entry, reason).await {
                tracing::error!(%error, offset = entry.offset, "a dead letter could not be written; again later");
                tokio::time::sleep(REST).await;
            }
            Done::DeadLetter { entry, permit }
        });
    }

    /// Places the segments that wait, and begins the step that is next.
    fn evaluate(&mut self, id: RecordingId) {
        if !self.driving {
            return;
        }
        let Some(driven) = self.recordings.get_mut(&id) else { return };
        let generation = driven.facts.current();
        if driven.doomed.is_some_and(|(of, _)| of != generation) {
            driven.doomed = None;
        }
        let now = driven.facts.now();
        driven
            .stored
            .retain(|(of, index)| *of == generation && now.is_some_and(|g| !g.is_complete() && !g.has_part(*index)));
        let mut given_way = Vec::new();
        for segment in std::mem::take(&mut driven.waiting) {
            match driven.place(&segment) {
                Place::Done => self.progress.finish(&segment.entry),
                Place::GiveWay => given_way.push(segment),
                Place::Wait => driven.waiting.push(segment),
                Place::Store { key, segment_size, multipart_id } => {
                    driven.uploading.insert(segment.segment.index);
                    let worker = self.setup.worker.clone();
                    let (group, index) = (self.setup.group, segment.segment.index);
                    let span = process_span!("part", group, Topic::Footage, segment.entry, recording = %id, index);
                    trace::of_recording(&span, segment.traceparent(), id.as_bytes());
                    driven.trace(&segment);
                    let store = async move {
                        let result = worker.store_part(&segment, &key, segment_size, &multipart_id).await;
                        let is_its_own = match &result {
                            Err(error) => error.may_be_its_own() && worker.store_takes_uploads().await,
                            Ok(_) => false,
                        };
                        Done::Part { id, segment, result, is_its_own }
                    };
                    self.tasks.spawn(store.instrument(span));
                }
            }
        }
        if !given_way.is_empty() {
            for segment in given_way {
                self.dead_letter(segment.entry, segment.permit, "STEP_FAILED");
            }
            return self.evaluate(id);
        }
        let idle = driven.waiting.is_empty() && driven.uploading.is_empty() && !driven.busy;
        if idle && driven.facts.is_empty() {
            self.recordings.remove(&id);
            return;
        }
        if driven.busy || driven.rests() || self.read < driven.settled_at {
            return;
        }
        driven.rests_until = None;
        let first = driven.first();
        let circumstances = Circumstances {
            now: (self.setup.worker.clock)(),
            segments_wait: !driven.waiting.is_empty(),
            first_waits: first.is_some(),
            seal_is_late: driven.seal_is_late(),
            doomed: driven.doomed.map(|(_, reason)| reason),
            abandon_after: self.setup.abandon_after,
            keep_facts: self.setup.keep_facts,
        };
        let step = plan::next(&driven.facts, &circumstances);
        let needs_quiet = matches!(step, Step::Reset(_) | Step::Abandon(_) | Step::Complete);
        if step == Step::Wait || (needs_quiet && !driven.uploading.is_empty()) {
            return;
        }
        driven.busy = true;
        let segment = first.filter(|_| step == Step::Put).map(|at| driven.waiting.swap_remove(at));
        let span = info_span!("step", recording = %id, generation, step = ?step);
        if let Some(segment) = &segment {
            driven.trace(segment);
        }
        // What a recording's segments come together in goes on from the last of them, and names the others.
        trace::of_recording(&span, driven.traces.last().map(|last| &last[..]), id.as_bytes());
        driven.traces.iter().rev().skip(1).for_each(|other| trace::link(&span, other));
        if !matches!(driven.facts.phase(), Some(Phase::Open | Phase::Sealed)) {
            // What comes after the end is for itself; recordings are remembered for weeks.
            driven.traces = Vec::new();
        }
        let (worker, job) = (self.setup.worker.clone(), Job { id, facts: driven.facts.clone(), segment });
        let run = async move {
            let result = worker.run(step, &job).await;
            // Giving up is tried once a plan: that it did not succeed at once says nothing yet.
            let was_tried = !matches!(step, Step::Reset(_) | Step::Abandon(_));
            let is_its_own = match &result {
                Err(error) => {
                    let may_be = error.may_be_its_own() && (was_tried || !error.is_retryable());
                    may_be && worker.store_takes_uploads().await
                }
                Ok(_) => false,
            };
            Done::Step { id, generation, segment: job.segment, result, is_its_own }
        };
        self.tasks.spawn(run.instrument(span));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Part { id, segment, result, is_its_own } => self.part_done(id, segment, result, is_its_own),
            Done::Step { id, generation, segment, result, is_its_own } => {
                // Once it shows in the view that it is stored, it is done with.
                if let Some(driven) = self.recordings.get_mut(&id) {
                    driven.waiting.extend(segment);
                }
                self.step_done(id, generation, result, is_its_own);
            }
            Done::DeadLetter { entry, permit } => {
                self.progress.finish(&entry);
                drop((entry, permit));
            }
            Done::End(end) => {
                if let Some(round) = &mut self.round {
                    round.end = Some(end);
                }
                self.read_to(self.read);
            }
            Done::Committed(result) => self.progress.ended(result),
        }
    }

    fn part_done(
        &mut self,
        id: RecordingId,
        segment: Segment,
        result: Result<PartOutcome, WorkError>,
        is_its_own: bool,
    ) {
        let Some(driven) = self.recordings.get_mut(&id) else { return };
        driven.uploading.remove(&segment.segment.index);
        match result {
            // The fact is durable: the segment need not come again. Other copies wait until it is in the view.
            Ok(PartOutcome::Stored(settled_at)) => {
                // Over the weeks of a slow upload many things fail once: only what fails again and again gives way.
                if driven.failed_at.is_some_and(|at| at.elapsed() > LONG_AGO) {
                    (driven.failures, driven.failed_at) = (0, None);
                }
                self.settling.extend(driven.settles(settled_at, self.read).map(|at| (at, id)));
                driven.stored.insert((segment.segment.generation, segment.segment.index));
                self.progress.finish(&segment.entry);
            }
            Ok(PartOutcome::Impossible(reason, settled_at)) => {
                self.settling.extend(driven.settles(settled_at, self.read).map(|at| (at, id)));
                driven.doomed.get_or_insert((segment.segment.generation, reason));
                driven.waiting.push(segment);
            }
            Err(error) => {
                tracing::error!(%error, recording = %id, "a segment could not be stored; trying again later");
                // Several that fail at once are one failure.
                if is_its_own && !driven.rests() {
                    driven.failures += 1;
                    driven.failed_at = Some(Instant::now());
                }
                driven.rests_until = Some(Instant::now() + REST);
                driven.waiting.push(segment);
            }
        }
        self.evaluate(id);
    }

    fn step_done(&mut self, id: RecordingId, generation: u32, result: Result<Outcome, WorkError>, is_its_own: bool) {
        let Some(driven) = self.recordings.get_mut(&id) else { return };
        driven.busy = false;
        match result {
            Ok(outcome) => {
                driven.failures = 0;
                self.settling.extend(driven.settles(outcome.settled_at, self.read).map(|at| (at, id)));
                if let Some(reason) = outcome.doomed {
                    driven.doomed = Some((generation, reason));
                }
            }
            Err(error) => {
                tracing::error!(%error, recording = %id, "a step failed; trying again later");
                let rest = if error.is_retryable() { TICK } else { REST };
                driven.rests_until = Some(Instant::now() + rest);
                driven.failures += u32::from(is_its_own);
            }
        }
        self.evaluate(id);
    }

    fn tick(&mut self) {
        self.commit();
        let now = Instant::now();
        let is_rested = |driven: &Driven| driven.rests_until.is_some_and(|until| until <= now);
        let is_due = |driven: &Driven| is_rested(driven) || driven.seal_is_late();
        let due: Vec<_> = self.recordings.iter().filter(|(_, d)| is_due(d)).map(|(id, _)| *id).collect();
        for id in due {
            self.evaluate(id);
        }
        let position = self.progress.position();
        let suspicious = self.recordings.values().any(|driven| driven.lost(position).is_some());
        if !self.undecided.is_empty() || suspicious {
            self.begin_round();
        }
    }

    fn sweep(&mut self) {
        let ids: Vec<_> = self.recordings.keys().copied().collect();
        for id in ids {
            self.evaluate(id);
        }
    }

    fn commit(&mut self) {
        if let Some(commit) = self.progress.due(Instant::now()) {
            let committer = self.setup.committer();
            self.tasks.spawn(async move { Done::Committed(committer.commit(commit).await) });
        }
    }

    /// Takes nothing new; lets what is in hand finish for a while; commits.
    async fn drain(mut self) {
        let number = self.setup.number;
        let finish = async {
            while let Some(done) = self.tasks.join_next().await {
                match done {
                    Ok(Done::Part { segment, result: Ok(PartOutcome::Stored(_)), .. }) => {
                        self.progress.finish(&segment.entry)
                    }
                    Ok(Done::DeadLetter { entry, .. }) => self.progress.finish(&entry),
                    Ok(Done::Committed(result)) => self.progress.ended(result),
                    _ => {}
                }
            }
        };
        // What is not finished comes again, here or elsewhere.
        let _ = timeout(DRAIN, finish).await;
        self.tasks.abort_all();
        if let Some(commit) = self.progress.last()
            && let Err(error) = self.setup.committer().commit(commit).await
        {
            tracing::info!(%error, partition = number, "the last commit did not go through; its work comes again");
        }
    }
}
