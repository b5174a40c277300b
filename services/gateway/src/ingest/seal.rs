//! `SealUpload`.

use std::collections::BTreeMap;

use caselock_domain::{
    digest::{self, Blake3, SegmentValue},
    fact::{Fact, FactKey, Subject},
    id::BureauId,
    reason::Reason,
    shape::Shape,
    state::{GenerationFacts, Phase, RecordingFacts},
};
use caselock_proto::v1 as proto;

use super::{Ingest, answer, recording_id};
use caselock_front::Refusal;

/// The most gaps that are named, for headers have an end (gRPC's clients take 8 KiB); GetUpload tells of all.
const GAPS: usize = 100;

impl Ingest {
    pub(super) async fn seal(
        &self,
        bureau: BureauId,
        request: proto::SealUploadRequest,
    ) -> Result<proto::Recording, Refusal> {
        let id = recording_id(&request.recording_id)?;
        let wanted = wanted(&request)?;
        self.view.catch_up(id).await?;
        let checked = self.view.look(&bureau, id, |facts| check(facts, request.generation, wanted));
        if checked.ok_or_else(Refusal::not_found)?? == Next::Seal {
            let (blake3, size) = wanted;
            let key = FactKey { recording: id, generation: request.generation, subject: Subject::Sealed(blake3) };
            let offset = self.view.record(&key, &Fact::Sealed(size, Some((self.clock)()))).await?;
            self.view.reach(id, offset).await?;
        }
        self.view.look(&bureau, id, |facts| answer::recording(id, facts)).ok_or_else(Refusal::not_found)
    }
}

#[derive(PartialEq)]
enum Next {
    /// Write the seal.
    Seal,
    /// It is as it should be already, or the client learns from the answer what is to be done.
    Tell,
}

fn wanted(request: &proto::SealUploadRequest) -> Result<(Blake3, u64), Refusal> {
    if request.size == 0 {
        return Err(Refusal::field(Reason::RecordingEmpty, "size", "at least 1 byte"));
    }
    let bytes = request.blake3[..].try_into();
    let bytes = bytes.map_err(|_| Refusal::field(Reason::SealDigestMismatch, "blake3", "32 bytes"))?;
    Ok((Blake3(bytes), request.size))
}

fn check(facts: &RecordingFacts, generation: u32, wanted: (Blake3, u64)) -> Result<Next, Refusal> {
    let Some(now) = facts.now() else { return Err(Refusal::not_found()) };
    match facts.phase() {
        // "Send again" is a normal turn: the answer shows the new generation.
        Some(Phase::Open) if facts.current() != generation => Ok(Next::Tell),
        // Two values for one index: the archiver starts the next generation.
        Some(Phase::Open) if now.is_conflicting() => Ok(Next::Tell),
        Some(Phase::Open) if now.abandon_requested().is_some() => {
            Err(answer::closed("its client asked to give it up; open it again"))
        }
        Some(Phase::Open) => {
            let opened = facts.opened().ok_or_else(Refusal::not_found)?;
            check_whole(now, opened.shape, wanted).map(|()| Next::Seal)
        }
        Some(Phase::Abandoned) => Err(answer::closed("it was abandoned; open it again")),
        Some(Phase::Disposed) => Err(answer::closed("it was disposed of; open it again")),
        _ => {
            let stored = now.receipt().and_then(|r| r.payload().ok()).map(|p| (p.blake3, p.size));
            match now.seal().or(stored) {
                Some(sealed) if sealed != wanted => Err(mismatch("it was sealed with another size or digest")),
                _ => Ok(Next::Tell),
            }
        }
    }
}

fn check_whole(now: &GenerationFacts, shape: Shape, (blake3, size): (Blake3, u64)) -> Result<(), Refusal> {
    if shape.size.is_some_and(|declared| declared != size) {
        return Err(Refusal::field(Reason::SealDigestMismatch, "size", "the size declared at the opening"));
    }
    let held = now.held_segments();
    let count = shape.segments_of(size);
    let gaps = gaps(&held, count);
    if !gaps.is_empty() {
        let named = gaps.join(", ");
        return Err(Refusal::field(
            Reason::SealIncomplete,
            "segments",
            format!("all {count} segments; missing: {named}"),
        ));
    }
    let fits = |(index, (_, length)): (&u32, &(SegmentValue, u32))| *length == shape.length_of(size, *index);
    if held.len() != count as usize || !held.iter().all(fits) {
        return Err(mismatch("the segments held do not add up to this size"));
    }
    let values: Vec<_> = held.values().map(|(value, _)| *value).collect();
    if digest::merge(&values, now.root()) != Some(blake3) {
        return Err(mismatch("the segments held do not have this BLAKE3"));
    }
    Ok(())
}

fn mismatch(why: &str) -> Refusal {
    Refusal::new(Reason::SealDigestMismatch, format!("{why}: compare the file with what GetUpload says is held"))
}

/// The missing indices below `count`, as ranges; of more than [`GAPS`], how many more.
fn gaps(held: &BTreeMap<u32, (SegmentValue, u32)>, count: u32) -> Vec<String> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for index in held.keys().copied().chain([count]).take_while(|i| *i <= count) {
        if index > next {
            gaps.push(if index - next == 1 { next.to_string() } else { format!("{next}-{}", index - 1) });
        }
        next = index + 1;
    }
    let more = gaps.len().saturating_sub(GAPS);
    gaps.truncate(GAPS);
    if more > 0 {
        gaps.push(format!("and {more} more gaps (GetUpload tells what is held)"));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_named_as_ranges() {
        let held = |indices: &[u32]| indices.iter().map(|i| (*i, (SegmentValue([0; 32]), 1))).collect();
        assert_eq!(gaps(&held(&[]), 1), ["0"]);
        assert_eq!(gaps(&held(&[0, 2, 3, 7]), 10), ["1", "4-6", "8-9"]);
        assert!(gaps(&held(&[0, 1, 2]), 3).is_empty());
        assert_eq!(gaps(&held(&[]), 5), ["0-4"]);
        let every_other: Vec<u32> = (0..1000).filter(|i| i % 2 == 0).collect();
        let named = gaps(&held(&every_other), 1000);
        assert_eq!((named.len(), named[99].as_str()), (GAPS + 1, "199"));
        assert_eq!(named[100], "and 400 more gaps (GetUpload tells what is held)");
    }
}
