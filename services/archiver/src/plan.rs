//! Which step a recording needs next: a pure function of its facts, so that every archiver decides alike.

use caselock_domain::state::{GenerationFacts, RecordingFacts};
use jiff::{SignedDuration, Timestamp};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do before another fact comes.
    Wait,
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
    /// Why the generation can't be finished, if it was found that it can't.
    pub doomed: Option<&'static str>,
    /// After what time an upload that was never sealed is given up.
    pub abandon_after: SignedDuration,
    /// How long facts of what is finished are kept.
    pub keep_facts: SignedDuration,
}

/// The next step.
pub fn next(facts: &RecordingFacts, circumstances: &Circumstances) -> Step {
    let (Some(now), Some(opened)) = (facts.now(), facts.opened()) else { return Step::Wait };
    let older_work = facts.older().any(|(_, g)| !g.finished_work().is_empty());
    let is_past = |since: Timestamp, time: SignedDuration| circumstances.now.duration_since(since) > time;
    if let Some(stored_at) = now.stored_at() {
        return match () {
            () if now.completion().is_some() => Step::Announce,
            () if older_work => Step::AnnounceReset,
            () if is_past(stored_at, circumstances.keep_facts) => Step::Forget,
            () => Step::Wait,
        };
    }
    if now.completion().is_some() {
        return Step::Finish;
    }
    if now.is_abandoned() {
        let tidy = now.finished_work().is_empty() && now.abandon_requested().is_none();
        return match () {
            () if !tidy => Step::AnnounceAbandoned,
            () if is_past(opened.opened_at, circumstances.abandon_after + circumstances.keep_facts) => Step::Forget,
            () => Step::Wait,
        };
    }
    if older_work {
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
    } else if now.abandon_requested().is_some() {
        return Step::Abandon("REQUESTED");
    } else if is_past(last_begun(now, opened.opened_at), circumstances.abandon_after) {
        return Step::Abandon("EXPIRED");
    }
    if circumstances.segments_wait && now.claim().is_none() { Step::Claim } else { Step::Wait }
}

/// Giving up counts from the claim, since that is what the store's own expiry counts from.
fn last_begun(now: &GenerationFacts, opened_at: Timestamp) -> Timestamp {
    now.claim().map_or(opened_at, |(_, at)| at)
}
