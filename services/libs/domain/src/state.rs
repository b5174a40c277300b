//! What follows from a recording's facts: a pure function, the same on every process that has read them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    digest::{Blake3, SegmentValue},
    fact::{Acknowledged, Completed, Fact, FactKey, Nonce, Opened, PartStored, Subject},
    receipt::Receipt,
};

/// A position in a partition of the log.
pub type Offset = u64;

/// How far a recording has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Segments are being taken.
    Open,
    /// Size and digest are named.
    Sealed,
    /// Locked, with its receipt.
    Stored,
    /// Read back whole, and intact.
    Verified,
    /// Media is done with it.
    Derived,
    /// Given up before it was sealed.
    Abandoned,
}

/// Everything known about one recording. Facts are applied in the order of their partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordingFacts {
    generations: BTreeMap<u32, GenerationFacts>,
}

/// The facts of one generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationFacts {
    opens: BTreeMap<Nonce, (Offset, Opened)>,
    acknowledged: BTreeMap<u32, BTreeMap<SegmentValue, Acknowledged>>,
    claims: BTreeMap<String, (Offset, Timestamp)>,
    parts: BTreeMap<u32, BTreeMap<SegmentValue, PartStored>>,
    seals: BTreeMap<Blake3, (Offset, u64)>,
    resets: BTreeMap<String, Timestamp>,
    abandon_requested: Option<Timestamp>,
    abandoned: BTreeMap<String, Timestamp>,
    completions: BTreeMap<Nonce, (Offset, Completed)>,
    receipt: Option<(Receipt, Timestamp)>,
    verified: Option<(bool, Timestamp)>,
    derived: Option<(Option<String>, Timestamp)>,
    /// The sum over `unstored`, kept as facts come: it is asked for after each of them.
    backlog: u64,
}

impl RecordingFacts {
    /// Takes the next record of the partition: a fact, or a tombstone (`None`) that removes the fact of its key.
    pub fn apply(&mut self, key: &FactKey, offset: Offset, fact: Option<Fact>) {
        let generation = self.generations.entry(key.generation).or_default();
        generation.apply(&key.subject, offset, fact);
        if *generation == GenerationFacts::default() {
            self.generations.remove(&key.generation);
        }
    }

    /// Whether nothing is known: every fact was removed.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// The generation that counts: one that is stored; else the highest.
    pub fn current(&self) -> u32 {
        let stored = self.generations.iter().rev().find(|(_, g)| g.is_complete());
        stored.or(self.generations.last_key_value()).map_or(0, |(number, _)| *number)
    }

    /// The facts of the current generation.
    pub fn now(&self) -> Option<&GenerationFacts> {
        self.generations.get(&self.current())
    }

    /// The facts of each generation below the current one.
    pub fn older(&self) -> impl Iterator<Item = (u32, &GenerationFacts)> {
        self.generations.range(..self.current()).map(|(number, facts)| (*number, facts))
    }

    /// The opening that counts: of the newest generation that was opened, up to the current one, the first in the log.
    pub fn opened(&self) -> Option<&Opened> {
        self.generations.range(..=self.current()).rev().find_map(|(_, g)| lowest(&g.opens)).map(|(_, o)| o)
    }

    /// How far the recording has come; `None` while no opening is known.
    pub fn phase(&self) -> Option<Phase> {
        self.opened()?;
        let now = self.now()?;
        Some(match now {
            g if g.receipt.is_some() => match (&g.verified, &g.derived) {
                (Some(_), Some(_)) => Phase::Derived,
                (Some((true, _)), None) => Phase::Verified,
                _ => Phase::Stored,
            },
            g if !g.completions.is_empty() => Phase::Sealed,
            g if g.is_abandoned() => Phase::Abandoned,
            g if !g.seals.is_empty() => Phase::Sealed,
            _ => Phase::Open,
        })
    }

    /// Why the current generation had to be begun or was given up, as a stable reason.
    pub fn reason(&self) -> Option<&str> {
        let now = self.now()?;
        now.abandoned().or_else(|| now.reset()).map(|(reason, _)| reason)
    }
}

impl GenerationFacts {
    fn apply(&mut self, subject: &Subject, offset: Offset, fact: Option<Fact>) {
        match (subject, fact) {
            (Subject::Opened(nonce), Some(Fact::Opened(o))) => {
                self.opens.insert(*nonce, (offset, *o));
            }
            (Subject::Acknowledged(index, value), Some(Fact::Acknowledged(a))) => {
                self.keeping_backlog(*index, |g| {
                    g.acknowledged.entry(*index).or_default().insert(*value, a);
                });
            }
            (Subject::Claimed(id), Some(Fact::Claimed(at))) => {
                self.claims.insert(id.clone(), (offset, at));
            }
            (Subject::PartStored(index, value), Some(Fact::PartStored(p))) => {
                self.keeping_backlog(*index, |g| {
                    g.parts.entry(*index).or_default().insert(*value, p);
                });
            }
            (Subject::Sealed(digest), Some(Fact::Sealed(size))) => {
                self.seals.insert(*digest, (offset, size));
            }
            (Subject::Reset(reason), Some(Fact::Reset(at))) => {
                self.resets.insert(reason.clone(), at);
            }
            (Subject::AbandonRequested, Some(Fact::AbandonRequested(at))) => self.abandon_requested = Some(at),
            (Subject::Abandoned(reason), Some(Fact::Abandoned(at))) => {
                self.abandoned.insert(reason.clone(), at);
            }
            (Subject::Completed(nonce), Some(Fact::Completed(c))) => {
                self.completions.insert(*nonce, (offset, c));
            }
            (Subject::Receipted, Some(Fact::Receipted(receipt, at))) => self.receipt = Some((*receipt, at)),
            (Subject::Verified, Some(Fact::Verified(intact, at))) => self.verified = Some((intact, at)),
            (Subject::Derived, Some(Fact::Derived(failure, at))) => self.derived = Some((failure, at)),
            (subject, None) => self.forget(subject),
            // A value that does not fit its key is nothing this version wrote.
            (_, Some(_)) => {}
        }
    }

    fn forget(&mut self, subject: &Subject) {
        match subject {
            Subject::Opened(nonce) => {
                self.opens.remove(nonce);
            }
            Subject::Acknowledged(index, value) => {
                self.keeping_backlog(*index, |g| forget_segment(&mut g.acknowledged, *index, value));
            }
            Subject::Claimed(id) => {
                self.claims.remove(id);
            }
            Subject::PartStored(index, value) => {
                self.keeping_backlog(*index, |g| forget_segment(&mut g.parts, *index, value));
            }
            Subject::Sealed(digest) => {
                self.seals.remove(digest);
            }
            Subject::Reset(reason) => {
                self.resets.remove(reason);
            }
            Subject::AbandonRequested => self.abandon_requested = None,
            Subject::Abandoned(reason) => {
                self.abandoned.remove(reason);
            }
            Subject::Completed(nonce) => {
                self.completions.remove(nonce);
            }
            Subject::Receipted => self.receipt = None,
            Subject::Verified => self.verified = None,
            Subject::Derived => self.derived = None,
        }
    }

    /// Whether the object is complete in the store.
    pub fn is_complete(&self) -> bool {
        self.receipt.is_some() || !self.completions.is_empty()
    }

    /// The value held for segment `index`: in the log or already in the store.
    pub fn held(&self, index: u32) -> Option<SegmentValue> {
        let values = self.acknowledged.get(&index).map(BTreeMap::keys);
        let stored = self.parts.get(&index).map(BTreeMap::keys);
        values.and_then(|mut v| v.next()).or_else(|| stored.and_then(|mut v| v.next())).copied()
    }

    /// Every segment held, by index, with its value and length.
    pub fn held_segments(&self) -> BTreeMap<u32, (SegmentValue, u32)> {
        let parts = self.parts.iter().filter_map(|(i, v)| Some((*i, v.iter().next()?)));
        let acks = self.acknowledged.iter().filter_map(|(i, v)| Some((*i, v.iter().next()?)));
        let mut held: BTreeMap<_, _> = parts.map(|(i, (v, p))| (i, (*v, p.length))).collect();
        held.extend(acks.map(|(i, (v, a))| (i, (*v, a.length))));
        held
    }

    /// The root-finalised hash of segment 0, from whichever fact has it.
    pub fn root(&self) -> Option<Blake3> {
        let acknowledged = self.acknowledged.get(&0).and_then(|v| v.values().find_map(|a| a.root));
        acknowledged.or_else(|| self.parts.get(&0).and_then(|v| v.values().find_map(|p| p.root)))
    }

    /// Whether two values are known for one index: two clients sent different bytes under one key.
    pub fn is_conflicting(&self) -> bool {
        self.acknowledged.iter().any(|(index, values)| {
            let other = |parts: &BTreeMap<SegmentValue, PartStored>| parts.keys().any(|v| !values.contains_key(v));
            values.len() > 1 || self.parts.get(index).is_some_and(other)
        }) || self.parts.values().any(|values| values.len() > 1)
    }

    /// Bytes that are in the log but not known to be in the store.
    pub fn backlog(&self) -> u64 {
        self.backlog
    }

    fn keeping_backlog(&mut self, index: u32, change: impl FnOnce(&mut Self)) {
        self.backlog -= self.waiting(index);
        change(self);
        self.backlog += self.waiting(index);
    }

    fn waiting(&self, index: u32) -> u64 {
        if self.parts.contains_key(&index) {
            return 0;
        }
        let values = self.acknowledged.get(&index).into_iter().flat_map(BTreeMap::values);
        values.map(|a| u64::from(a.length)).sum()
    }

    /// The acknowledged segments that are no part yet, with their offsets in the footage partition.
    pub fn unstored(&self) -> impl Iterator<Item = (u32, Offset)> {
        let waiting = self.acknowledged.iter().filter(|(index, _)| !self.parts.contains_key(index));
        waiting.flat_map(|(index, values)| values.values().map(|a| (*index, a.footage_offset)))
    }

    /// Whether segment `index` is a part, with whatever value.
    pub fn has_part(&self, index: u32) -> bool {
        self.parts.contains_key(&index)
    }

    /// The parts in order, one an index.
    pub fn parts(&self) -> impl Iterator<Item = (u32, &SegmentValue, &PartStored)> {
        self.parts.iter().flat_map(|(i, values)| values.iter().map(|(v, p)| (*i, v, p)))
    }

    /// Whether every one of `count` segments is a part.
    pub fn is_stored_up_to(&self, count: u32) -> bool {
        self.parts.len() == count as usize && self.parts.last_key_value().is_some_and(|(last, _)| last + 1 == count)
    }

    /// Whether exactly the segments `0..count` are known, in the log or in the store.
    pub fn is_known_up_to(&self, count: u32) -> bool {
        let mut known = self.acknowledged.keys().chain(self.parts.keys());
        known.all(|index| *index < count)
            && (0..count).all(|i| self.acknowledged.contains_key(&i) || self.parts.contains_key(&i))
    }

    /// The multipart upload that counts: the first claim in the log.
    pub fn claim(&self) -> Option<(&str, Timestamp)> {
        let (id, (_, at)) = self.claims.iter().min_by_key(|(_, (offset, _))| *offset)?;
        Some((id, *at))
    }

    /// The multipart uploads that do not count.
    pub fn losing_claims(&self) -> impl Iterator<Item = &str> {
        let winner = self.claim().map(|(id, _)| id);
        self.claims.keys().map(String::as_str).filter(move |id| Some(*id) != winner)
    }

    /// The size and digest the client named: the first in the log.
    pub fn seal(&self) -> Option<(Blake3, u64)> {
        let (digest, (_, size)) = self.seals.iter().min_by_key(|(_, (offset, _))| *offset)?;
        Some((*digest, *size))
    }

    /// Since when the client asks to give up.
    pub fn abandon_requested(&self) -> Option<Timestamp> {
        self.abandon_requested
    }

    /// Whether the upload was given up.
    pub fn is_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }

    /// Why and when the upload was given up.
    pub fn abandoned(&self) -> Option<(&str, Timestamp)> {
        self.abandoned.first_key_value().map(|(reason, at)| (reason.as_str(), *at))
    }

    /// Why and when this generation had to be begun; `None` where it was simply opened.
    pub fn reset(&self) -> Option<(&str, Timestamp)> {
        self.resets.first_key_value().map(|(reason, at)| (reason.as_str(), *at))
    }

    /// The completion that counts: the first in the log.
    pub fn completion(&self) -> Option<&Completed> {
        lowest(&self.completions).map(|(_, c)| c)
    }

    /// The receipt.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref().map(|(receipt, _)| receipt)
    }

    /// When the receipt says the recording was stored.
    pub fn stored_at(&self) -> Option<Timestamp> {
        self.receipt.as_ref().map(|(_, at)| *at)
    }

    /// Whether the original was read back whole.
    pub fn is_verified(&self) -> bool {
        self.verified.is_some()
    }

    /// The keys of the facts that are no longer needed once the recording is stored, or sent again: segments, claims,
    /// parts and seals; the completions last, since their presence says that the end is still to be finished.
    pub fn finished_work(&self) -> Vec<Subject> {
        let acknowledged = self.acknowledged.iter().flat_map(|(i, values)| values.keys().map(|v| (*i, *v)));
        let mut subjects: Vec<_> = acknowledged.map(|(i, v)| Subject::Acknowledged(i, v)).collect();
        subjects.extend(self.parts().map(|(i, v, _)| Subject::PartStored(i, *v)));
        subjects.extend(self.claims.keys().cloned().map(Subject::Claimed));
        subjects.extend(self.seals.keys().copied().map(Subject::Sealed));
        subjects.extend(self.completions.keys().copied().map(Subject::Completed));
        subjects
    }

    /// The keys of every fact of the generation.
    pub fn everything(&self) -> Vec<Subject> {
        let mut subjects = self.finished_work();
        subjects.extend(self.opens.keys().copied().map(Subject::Opened));
        subjects.extend(self.resets.keys().cloned().map(Subject::Reset));
        subjects.extend(self.abandon_requested.map(|_| Subject::AbandonRequested));
        subjects.extend(self.abandoned.keys().cloned().map(Subject::Abandoned));
        subjects.extend(self.verified.as_ref().map(|_| Subject::Verified));
        subjects.extend(self.derived.as_ref().map(|_| Subject::Derived));
        subjects.extend(self.receipt.as_ref().map(|_| Subject::Receipted));
        subjects
    }
}

fn lowest<T>(attempts: &BTreeMap<Nonce, (Offset, T)>) -> Option<&(Offset, T)> {
    attempts.values().min_by_key(|(offset, _)| *offset)
}

fn forget_segment<T>(map: &mut BTreeMap<u32, BTreeMap<SegmentValue, T>>, index: u32, value: &SegmentValue) {
    if let Some(values) = map.get_mut(&index) {
        values.remove(value);
        if values.is_empty() {
            map.remove(&index);
        }
    }
}
