//! Which step a recording needs next: a pure function of its facts, so that every archiver decides alike.

use caselock_domain::state::{GenerationFacts, RecordingFacts};
use jiff::{SignedDuration, Timestamp};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do before another fact comes.
    Wait,
    /// Store the only segment by a single call, unless the object is there already.
    Put,
    /// Begin a multipart upload, unless the object is there already.
    Claim,
    /// Make one object of the parts.
    Complete,
    /// Lock it, read the lock back, sign, write the manifest, record the receipt.
    Finish,
    /// Tell of it, and tidy the facts that are no longer needed.
    Announce,
    /// Drop the multipart upload and ask for the footage again, for this reason.
    Reset(&'static str),
    /// Tell that the footage is needed again, and tidy the facts of older generations.
    AnnounceReset,
    /// Drop the multipart upload and give the recording up, for this reason.
    Abandon(&'static str),
    /// Tell that it was given up, and tidy.
    AnnounceAbandoned,
    /// Drop multipart uploads that do not count.
    DropLosers,
    /// Remove facts that came late, after the recording was stored or sent again.
    Tidy,
    /// Remove what is left: it was stored, or given up, long ago.
    Forget,
}

/// What the plan depends on beside the facts.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The time.
    pub now: Timestamp,
    /// Whether segments wait for a multipart upload.
    pub segments_wait: bool,
    /// Whether segment 0, as it was acknowledged, is among them.
    pub first_waits: bool,
    /// Whether they have waited for the seal as long as others may be held up.
    pub seal_is_late: bool,
    /// Why the generation can't be finished, if it was found that it can't.
    pub doomed: Option<&'static str>,
    /// After what time an upload that was never sealed is given up.
    pub abandon_after: SignedDuration,
    /// How long facts of what is finished are kept.
    pub keep_facts: SignedDuration,
}

/// The next step.
pub fn next(facts: &RecordingFacts, circumstances: &Circumstances) -> Step {
    let Some(now) = facts.now() else { return Step::Wait };
    let is_past = |since: Timestamp, time: SignedDuration| circumstances.now.duration_since(since) > time;
    if let Some(disposed_at) = now.disposed_at() {
        return if is_past(disposed_at, circumstances.keep_facts) { Step::Forget } else { Step::Wait };
    }
    let Some(opened) = facts.opened() else {
        // Half forgotten: the rest goes as well. What was announced and never came is remembered as long as an upload that
        // was given up.
        let kept = circumstances.abandon_after + circumstances.keep_facts;
        let is_old = facts.announced().is_some_and(|announced| is_past(announced.announced_at, kept));
        return if now.receipt().is_some() || now.is_abandoned() || is_old { Step::Forget } else { Step::Wait };
    };
    let other_work = facts.others().any(|(_, g)| !g.finished_work().is_empty());
    if let Some(stored_at) = now.stored_at() {
        return match () {
            () if now.completion().is_some() => Step::Announce,
            () if other_work => Step::AnnounceReset,
            () if !now.finished_work().is_empty() => Step::Tidy,
            () if is_past(stored_at, circumstances.keep_facts) => Step::Forget,
            () => Step::Wait,
        };
    }
    if now.completion().is_some() {
        // The next generation was begun, and what this one was is tidied: it came too late.
        let has_next = facts.others().any(|(generation, _)| generation > facts.current());
        return if has_next && now.stored_values().is_empty() { Step::Tidy } else { Step::Finish };
    }
    if now.is_abandoned() {
        let tidy = now.finished_work().is_empty() && now.abandon_requested().is_none();
        return match () {
            () if !tidy => Step::AnnounceAbandoned,
            () if is_past(opened.opened_at, circumstances.abandon_after + circumstances.keep_facts) => Step::Forget,
            () => Step::Wait,
        };
    }
    if other_work {
        return Step::AnnounceReset;
    }
    if let Some(reason) = circumstances.doomed {
        return Step::Reset(reason);
    }
    if now.is_conflicting() {
        return Step::Reset("SEGMENT_CONFLICT");
    }
    if now.losing_claims().next().is_some() {
        return Step::DropLosers;
    }
    if let Some((_, size)) = now.seal() {
        if now.claim().is_some() && now.is_stored_up_to(opened.shape.segments_of(size)) {
            return Step::Complete;
        }
        // Whoever sealed had every acknowledgement before it in the log: one that is not there now was lost.
        if !now.is_known_up_to(opened.shape.segments_of(size)) {
            return Step::Reset("FOOTAGE_LOST");
        }
        if now.claim().is_none() && opened.shape.is_one_segment(size) {
            return if circumstances.first_waits { Step::Put } else { Step::Wait };
        }
    } else if now.abandon_requested().is_some() {
        return Step::Abandon("REQUESTED");
    } else if is_past(last_begun(now, opened.opened_at), circumstances.abandon_after) {
        return Step::Abandon("EXPIRED");
    }
    let needs_claim = circumstances.segments_wait && now.claim().is_none();
    // Once it is sealed, a recording of one segment needs none: that is a matter of milliseconds.
    let may_be_put = opened.shape.size.is_some_and(|size| opened.shape.is_one_segment(size));
    if needs_claim && (!may_be_put || circumstances.seal_is_late) { Step::Claim } else { Step::Wait }
}

/// Giving up counts from the claim, since that is what the store's own expiry counts from; before there is one, from the
/// generation's beginning.
fn last_begun(now: &GenerationFacts, opened_at: Timestamp) -> Timestamp {
    let claimed = now.claim().map(|(_, at)| at);
    claimed.or(now.reset().map(|(_, at)| at)).unwrap_or(opened_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caselock_domain::{
        digest::{Blake3, SegmentValue},
        fact::{Acknowledged, Announced, Completed, Disposed, Fact, FactKey, Opened, PartStored, Subject},
        id::RecordingId,
        receipt::Receipt,
        shape::Shape,
    };

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
    }

    /// Facts in the order of the log, and the step that follows.
    struct Case {
        facts: RecordingFacts,
        offset: u64,
        circumstances: Circumstances,
    }

    impl Case {
        fn opened() -> Self {
            let day = |days: i64| SignedDuration::from_hours(24 * days);
            let circumstances = Circumstances {
                now: at(1),
                segments_wait: false,
                first_waits: false,
                seal_is_late: false,
                doomed: None,
                abandon_after: day(30),
                keep_facts: day(30),
            };
            let metadata = serde_json::from_value(serde_json::json!({
                "source": "document", "matter": "permit", "record_form": "document", "unit": "u", "officers": ["o"],
                "document_id": "d", "original_name": "n", "content_type": "a/b"
            }));
            let case = Self { facts: RecordingFacts::default(), offset: 0, circumstances };
            case.with(
                0,
                Subject::Opened([1; 16]),
                Fact::Opened(Box::new(Opened {
                    bureau: "demo".parse().unwrap(),
                    key: "k".parse().unwrap(),
                    metadata: metadata.unwrap(),
                    shape: Shape { segment_size: 1024, size: Some(2000) },
                    opened_at: at(0),
                })),
            )
        }

        fn with(mut self, generation: u32, subject: Subject, fact: Fact) -> Self {
            let key = FactKey { recording: RecordingId::from_bytes([1; 16]), generation, subject };
            self.facts.apply(&key, self.offset, Some(fact));
            self.offset += 1;
            self
        }

        fn segment(self, index: u32, value: u8) -> Self {
            let fact = Acknowledged { length: 1, footage_offset: 0, root: None, at: None };
            self.with(0, Subject::Acknowledged(index, SegmentValue([value; 32])), Fact::Acknowledged(fact))
        }

        fn part(self, index: u32) -> Self {
            let fact =
                PartStored { length: 1, etag: String::new(), crc64nvme: 0, multipart_id: "m".into(), root: None };
            self.with(0, Subject::PartStored(index, SegmentValue([1; 32])), Fact::PartStored(fact))
        }

        fn claim(self, id: &str) -> Self {
            self.with(0, Subject::Claimed(id.into()), Fact::Claimed(at(0)))
        }

        fn seal(self) -> Self {
            self.with(0, Subject::Sealed(Blake3([1; 32])), Fact::Sealed(2000, None))
        }

        fn complete(self) -> Self {
            let fact =
                Completed { version: "v".into(), stored_at: at(1), lock_until: at(9), legal_hold: false, crc64nvme: 0 };
            self.with(0, Subject::Completed([1; 16]), Fact::Completed(fact))
        }

        fn receipt(self) -> Self {
            let receipt = Receipt { payload: Vec::new(), key_id: String::new(), signature: Vec::new() };
            self.with(0, Subject::Receipted, Fact::Receipted(Box::new(receipt), at(1)))
        }

        fn given(mut self, change: impl FnOnce(&mut Circumstances)) -> Self {
            change(&mut self.circumstances);
            self
        }

        #[track_caller]
        fn expect(self, step: Step) -> Self {
            assert_eq!(next(&self.facts, &self.circumstances), step);
            self
        }
    }

    #[test]
    fn from_the_first_segment_to_the_last_tombstone() {
        let case = Case::opened().expect(Step::Wait).segment(0, 1).expect(Step::Wait);
        let case = case.given(|c| c.segments_wait = true).expect(Step::Claim);
        let case = case.claim("m").expect(Step::Wait).part(0).segment(1, 1).seal().expect(Step::Wait);
        let case = case.part(1).expect(Step::Complete);
        let case = case.complete().expect(Step::Finish).receipt().expect(Step::Announce);
        drop(case);
        let tidy = Case::opened().receipt().expect(Step::Wait);
        tidy.given(|c| c.now = at(24 * 32)).expect(Step::Forget);
    }

    #[test]
    fn one_segment_is_put_once_it_is_sealed() {
        let small = || {
            let case = Case::opened();
            let mut opened = case.facts.opened().unwrap().clone();
            opened.shape.size = Some(1000);
            let case = Case { facts: RecordingFacts::default(), ..case };
            case.with(0, Subject::Opened([1; 16]), Fact::Opened(Box::new(opened))).segment(0, 1)
        };
        let waits = |c: &mut Circumstances| (c.segments_wait, c.first_waits) = (true, true);
        let late = |c: &mut Circumstances| c.seal_is_late = true;
        let sealed = |case: Case| case.with(0, Subject::Sealed(Blake3([1; 32])), Fact::Sealed(1000, None));
        let case = sealed(small().given(waits).expect(Step::Wait)).expect(Step::Put);
        case.complete().expect(Step::Finish);
        // What was sent is not what is acknowledged: that is still to come.
        sealed(small()).given(|c| c.segments_wait = true).expect(Step::Wait);
        // Nobody seals it: others go on.
        let case = small().given(waits).given(late).expect(Step::Claim).claim("m").expect(Step::Wait);
        sealed(case).expect(Step::Wait).part(0).expect(Step::Complete);
        // A length that is not known yet.
        let live = Case::opened();
        let mut opened = live.facts.opened().unwrap().clone();
        opened.shape.size = None;
        let live = Case { facts: RecordingFacts::default(), ..live };
        let live = live.with(0, Subject::Opened([1; 16]), Fact::Opened(Box::new(opened))).segment(0, 1);
        sealed(live.given(waits).expect(Step::Claim)).expect(Step::Put);
    }

    #[test]
    fn what_is_complete_is_finished_whatever_else_is_known() {
        let requested = Fact::AbandonRequested(at(1));
        let case = Case::opened().segment(0, 1).segment(0, 2).claim("m").complete();
        let case = case.with(0, Subject::AbandonRequested, requested);
        case.given(|c| c.doomed = Some("FOOTAGE_LOST")).expect(Step::Finish).receipt().expect(Step::Announce);
    }

    #[test]
    fn doom_and_conflict_reset() {
        Case::opened().seal().given(|c| c.doomed = Some("FOOTAGE_LOST")).expect(Step::Reset("FOOTAGE_LOST"));
        let case = Case::opened().claim("m").segment(0, 1).segment(0, 2).expect(Step::Reset("SEGMENT_CONFLICT"));
        let case = case.with(1, Subject::Reset("SEGMENT_CONFLICT".into()), Fact::Reset(at(1)));
        case.expect(Step::AnnounceReset);
    }

    #[test]
    fn what_is_sealed_is_never_given_up() {
        let late = |c: &mut Circumstances| c.now = at(24 * 31);
        Case::opened().given(late).expect(Step::Abandon("EXPIRED"));
        Case::opened().segment(0, 1).segment(1, 1).seal().given(late).expect(Step::Wait);
        let asked = Case::opened().with(0, Subject::AbandonRequested, Fact::AbandonRequested(at(1)));
        asked.expect(Step::Abandon("REQUESTED")).segment(0, 1).segment(1, 1).seal().expect(Step::Wait);
        let given_up = Case::opened().claim("m").with(0, Subject::Abandoned("X".into()), Fact::Abandoned(at(1)));
        given_up.expect(Step::AnnounceAbandoned);
        // The seal and the abandonment crossed in the log, in either order: it is stored, or asked for again.
        let abandon = |case: Case| case.with(0, Subject::Abandoned("X".into()), Fact::Abandoned(at(1)));
        let held = || Case::opened().claim("m").part(0).part(1);
        abandon(held().seal()).expect(Step::Complete);
        abandon(held()).seal().expect(Step::Complete);
        abandon(Case::opened()).seal().expect(Step::Reset("FOOTAGE_LOST"));
    }

    #[test]
    fn a_seal_whose_acknowledgements_are_gone_is_sent_again() {
        Case::opened().segment(0, 1).seal().expect(Step::Reset("FOOTAGE_LOST"));
        Case::opened().segment(0, 1).segment(1, 1).segment(2, 1).seal().expect(Step::Reset("FOOTAGE_LOST"));
    }

    #[test]
    fn what_comes_late_is_tidied_without_another_word() {
        Case::opened().receipt().segment(0, 1).expect(Step::Tidy);
    }

    #[test]
    fn what_was_disposed_of_or_never_came_is_forgotten_in_time() {
        let fact = Fact::Disposed(Disposed { bureau: "demo".parse().unwrap(), disposed_at: at(1) });
        let case = Case::opened().receipt().with(0, Subject::Disposed, fact).expect(Step::Wait);
        case.given(|c| c.now = at(24 * 32)).expect(Step::Forget);
        let opened = Case::opened();
        let Opened { bureau, key, metadata, .. } = opened.facts.opened().unwrap().clone();
        let fact = Fact::Announced(Box::new(Announced { bureau, key, metadata, announced_at: at(0) }));
        let announced = Case { facts: RecordingFacts::default(), ..opened };
        let announced = announced.with(0, Subject::Announced([1; 16]), fact).expect(Step::Wait);
        announced.given(|c| c.now = at(24 * 61)).expect(Step::Forget);
    }

    #[test]
    fn a_completion_that_comes_after_send_again_is_tidied() {
        let reset = |case: Case| case.with(1, Subject::Reset("FOOTAGE_LOST".into()), Fact::Reset(at(1)));
        let case = reset(Case::opened()).complete().expect(Step::Tidy);
        assert_eq!(case.facts.current(), 0);
        // With its facts it is the recording, whatever was begun meanwhile.
        reset(Case::opened().claim("m").part(0).part(1).seal()).complete().expect(Step::Finish);
    }

    #[test]
    fn losers_of_the_race_are_dropped() {
        Case::opened().claim("m").claim("n").expect(Step::DropLosers);
    }
}
