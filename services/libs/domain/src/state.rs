//! What follows from a recording's facts: a pure function, the same on every process that has read them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    digest::{Blake3, SegmentValue},
    fact::{Acknowledged, Completed, Disposed, Fact, FactKey, Nonce, Opened, PartStored, Subject},
    id::BureauId,
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
    /// Removed after its retention had run out, by decision of a person.
    Disposed,
}

/// Everything known about one recording. Facts are applied in the order of their partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordingFacts {
    /// Boxed, as the openings are: a tree's leaf has room for eleven values, and most recordings have one.
    generations: BTreeMap<u32, Box<GenerationFacts>>,
}

/// What is known of segments, by index and value: nearly always one value an index.
type Segments<T> = BTreeMap<(u32, SegmentValue), T>;

/// What is kept in mind of an announcement: there may be many, for weeks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The bureau.
    pub bureau: BureauId,
    /// When.
    pub announced_at: Timestamp,
}

/// The facts of one generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationFacts {
    announced: BTreeMap<Nonce, (Offset, Announcement)>,
    opens: BTreeMap<Nonce, (Offset, Box<Opened>)>,
    acknowledged: Segments<Acknowledged>,
    claims: BTreeMap<String, (Offset, Timestamp)>,
    parts: Segments<PartStored>,
    seals: BTreeMap<Blake3, (Offset, (u64, Option<Timestamp>))>,
    resets: BTreeMap<String, Timestamp>,
    abandon_requested: Option<Timestamp>,
    abandoned: BTreeMap<String, Timestamp>,
    completions: BTreeMap<Nonce, (Offset, Completed)>,
    receipt: Option<(Receipt, Timestamp)>,
    verified: Option<(bool, Timestamp)>,
    derived: Option<(Option<String>, Timestamp)>,
    disposed: Option<Disposed>,
    /// The sum over `unstored`, kept as facts come: it is asked for after each of them.
    backlog: u64,
    /// How many indices have several values: likewise.
    conflicts: u32,
}

impl RecordingFacts {
    /// Takes the next record of the partition: a fact, or a tombstone (`None`) that removes the fact of its key.
    pub fn apply(&mut self, key: &FactKey, offset: Offset, fact: Option<Fact>) {
        let generation = self.generations.entry(key.generation).or_default();
        generation.apply(&key.subject, offset, fact);
        if **generation == GenerationFacts::default() {
            self.generations.remove(&key.generation);
        }
    }

    /// Whether nothing is known: every fact was removed.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// The generation that counts: one that is stored and not disposed of; else the highest.
    pub fn current(&self) -> u32 {
        let stored = self.generations.iter().rev().find(|(_, g)| g.is_complete() && g.disposed.is_none());
        stored.or(self.generations.last_key_value()).map_or(0, |(number, _)| *number)
    }

    /// The facts of the current generation.
    pub fn now(&self) -> Option<&GenerationFacts> {
        self.generations.get(&self.current()).map(Box::as_ref)
    }

    /// The facts of each generation but the current one: older ones, and where an older one is stored, newer ones.
    pub fn others(&self) -> impl Iterator<Item = (u32, &GenerationFacts)> {
        let current = self.current();
        self.generations
            .iter()
            .filter(move |(number, _)| **number != current)
            .map(|(number, facts)| (*number, facts.as_ref()))
    }

    /// The opening that counts: of the newest generation that was opened, up to the current one, the first in the log.
    pub fn opened(&self) -> Option<&Opened> {
        self.generations.range(..=self.current()).rev().find_map(|(_, g)| lowest(&g.opens)).map(|(_, o)| o.as_ref())
    }

    /// The first announcement in the log.
    pub fn announced(&self) -> Option<&Announcement> {
        self.generations.values().find_map(|g| lowest(&g.announced)).map(|(_, announcement)| announcement)
    }

    /// The bureau, as soon as anything says which.
    pub fn bureau(&self) -> Option<&BureauId> {
        let disposed = || self.generations.values().find_map(|g| g.disposed.as_ref()).map(|d| &d.bureau);
        let opened = self.opened().map(|o| &o.bureau);
        opened.or_else(disposed).or_else(|| self.announced().map(|a| &a.bureau))
    }

    /// Whether this generation was disposed of.
    pub fn is_disposed(&self, generation: u32) -> bool {
        self.generations.get(&generation).is_some_and(|g| g.disposed.is_some())
    }

    /// How far the recording has come; `None` while no opening is known, announced or not.
    pub fn phase(&self) -> Option<Phase> {
        let now = self.now()?;
        if now.disposed.is_some() {
            return Some(Phase::Disposed);
        }
        self.opened()?;
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
                self.opens.insert(*nonce, (offset, o));
            }
            (Subject::Acknowledged(index, value), Some(Fact::Acknowledged(a))) => {
                self.change_segment(*index, |g| {
                    g.acknowledged.insert((*index, *value), a);
                });
            }
            (Subject::Claimed(id), Some(Fact::Claimed(at))) => {
                self.claims.insert(id.clone(), (offset, at));
            }
            (Subject::PartStored(index, value), Some(Fact::PartStored(p))) => {
                self.change_segment(*index, |g| {
                    g.parts.insert((*index, *value), p);
                });
            }
            (Subject::Sealed(digest), Some(Fact::Sealed(size, at))) => {
                self.seals.insert(*digest, (offset, (size, at)));
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
            (Subject::Announced(nonce), Some(Fact::Announced(a))) => {
                let announcement = Announcement { bureau: a.bureau, announced_at: a.announced_at };
                self.announced.insert(*nonce, (offset, announcement));
            }
            (Subject::Disposed, Some(Fact::Disposed(d))) => self.disposed = Some(d),
            (subject, None) => self.forget(subject),
            // A value that does not fit its key is nothing this version wrote.
            (_, Some(_)) => {}
        }
    }

    fn forget(&mut self, subject: &Subject) {
        match subject {
            Subject::Opened(nonce) => {
                release(&mut self.opens, nonce);
            }
            Subject::Acknowledged(index, value) => {
                self.change_segment(*index, |g| {
                    release(&mut g.acknowledged, &(*index, *value));
                });
            }
            Subject::Claimed(id) => {
                release(&mut self.claims, id);
            }
            Subject::PartStored(index, value) => {
                self.change_segment(*index, |g| {
                    release(&mut g.parts, &(*index, *value));
                });
            }
            Subject::Sealed(digest) => {
                release(&mut self.seals, digest);
            }
            Subject::Reset(reason) => {
                self.resets.remove(reason);
            }
            Subject::AbandonRequested => self.abandon_requested = None,
            Subject::Abandoned(reason) => {
                self.abandoned.remove(reason);
            }
            Subject::Completed(nonce) => {
                release(&mut self.completions, nonce);
            }
            Subject::Receipted => self.receipt = None,
            Subject::Verified => self.verified = None,
            Subject::Derived => self.derived = None,
            Subject::Announced(nonce) => {
                release(&mut self.announced, nonce);
            }
            Subject::Disposed => self.disposed = None,
        }
    }

    /// Whether the object is complete in the store.
    pub fn is_complete(&self) -> bool {
        self.receipt.is_some() || !self.completions.is_empty()
    }

    /// The value held for segment `index`: in the log or already in the store.
    pub fn held(&self, index: u32) -> Option<SegmentValue> {
        let acknowledged = of_index(&self.acknowledged, index).next().map(|(value, _)| value);
        acknowledged.or_else(|| of_index(&self.parts, index).next().map(|(value, _)| value))
    }

    /// Every segment held, by index, with its value and length.
    pub fn held_segments(&self) -> BTreeMap<u32, (SegmentValue, u32)> {
        let mut held = BTreeMap::new();
        for ((index, value), a) in &self.acknowledged {
            held.entry(*index).or_insert((*value, a.length));
        }
        for ((index, value), p) in &self.parts {
            held.entry(*index).or_insert((*value, p.length));
        }
        held
    }

    /// The root-finalised hash of segment 0, from whichever fact has it.
    pub fn root(&self) -> Option<Blake3> {
        let acknowledged = of_index(&self.acknowledged, 0).find_map(|(_, a)| a.root);
        acknowledged.or_else(|| of_index(&self.parts, 0).find_map(|(_, p)| p.root))
    }

    /// Whether two values are known for one index: two clients sent different bytes under one key.
    pub fn is_conflicting(&self) -> bool {
        self.conflicts > 0
    }

    /// Bytes that are in the log but not known to be in the store.
    pub fn backlog(&self) -> u64 {
        self.backlog
    }

    fn change_segment(&mut self, index: u32, change: impl FnOnce(&mut Self)) {
        self.backlog -= self.waiting(index);
        self.conflicts -= u32::from(self.conflicts_at(index));
        change(self);
        self.backlog += self.waiting(index);
        self.conflicts += u32::from(self.conflicts_at(index));
    }

    fn conflicts_at(&self, index: u32) -> bool {
        let acknowledged = of_index(&self.acknowledged, index).map(|(value, _)| value);
        let mut values = acknowledged.chain(of_index(&self.parts, index).map(|(value, _)| value));
        values.next().is_some_and(|first| values.any(|other| other != first))
    }

    fn waiting(&self, index: u32) -> u64 {
        if self.has_part(index) {
            return 0;
        }
        of_index(&self.acknowledged, index).map(|(_, a)| u64::from(a.length)).sum()
    }

    /// The acknowledged segments that are no part yet, with their offsets in the footage partition.
    pub fn unstored(&self) -> impl Iterator<Item = (u32, Offset)> {
        let waiting = self.acknowledged.iter().filter(|((index, _), _)| !self.has_part(*index));
        waiting.map(|((index, _), a)| (*index, a.footage_offset))
    }

    /// When the oldest acknowledged segment that is no part yet was acknowledged, as far as that is said.
    pub fn oldest_unstored(&self) -> Option<Timestamp> {
        let waiting = self.acknowledged.iter().filter(|((index, _), _)| !self.has_part(*index));
        waiting.filter_map(|(_, a)| a.at).min()
    }

    /// Whether segment `index` is a part, with whatever value.
    pub fn has_part(&self, index: u32) -> bool {
        of_index(&self.parts, index).next().is_some()
    }

    /// The parts in order, one an index.
    pub fn parts(&self) -> impl Iterator<Item = (u32, &SegmentValue, &PartStored)> {
        self.parts.iter().map(|((index, value), part)| (*index, value, part))
    }

    /// The values of the segments that the object was made of, in order: its parts, or the one segment that was stored by a
    /// single call, whatever else was sent. Empty where the facts do not say.
    pub fn stored_values(&self) -> Vec<SegmentValue> {
        let Some((sealed, _)) = self.seal() else { return Vec::new() };
        let acknowledged = of_index(&self.acknowledged, 0).map(|(value, a)| (value, a.root));
        let mut first = acknowledged.chain(of_index(&self.parts, 0).map(|(value, part)| (value, part.root)));
        // Only of one segment is that the whole.
        match first.find(|(_, root)| *root == Some(sealed)) {
            Some((whole, _)) => vec![whole],
            None => self.parts().map(|(_, value, _)| *value).collect(),
        }
    }

    /// Whether every one of `count` segments is a part.
    pub fn is_stored_up_to(&self, count: u32) -> bool {
        self.parts.len() == count as usize && self.parts.keys().map(|(index, _)| *index).eq(0..count)
    }

    /// Whether exactly the segments `0..count` are known, in the log or in the store.
    pub fn is_known_up_to(&self, count: u32) -> bool {
        let known: BTreeSet<_> = self.acknowledged.keys().chain(self.parts.keys()).map(|(index, _)| *index).collect();
        known.into_iter().eq(0..count)
    }

    /// The multipart upload that counts: the first claim in the log.
    pub fn claim(&self) -> Option<(&str, Timestamp)> {
        let (id, (_, at)) = self.claims.iter().min_by_key(|(_, (offset, _))| *offset)?;
        Some((id, *at))
    }

    /// Every multipart upload that was begun.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.claims.keys().map(String::as_str)
    }

    /// The multipart uploads that do not count.
    pub fn losing_claims(&self) -> impl Iterator<Item = &str> {
        let winner = self.claim().map(|(id, _)| id);
        self.claims.keys().map(String::as_str).filter(move |id| Some(*id) != winner)
    }

    /// The size and digest the client named: the first in the log.
    pub fn seal(&self) -> Option<(Blake3, u64)> {
        let (digest, (_, (size, _))) = self.seals.iter().min_by_key(|(_, (offset, _))| *offset)?;
        Some((*digest, *size))
    }

    /// When that was, where it is said.
    pub fn sealed_at(&self) -> Option<Timestamp> {
        let (_, (_, at)) = self.seals.values().min_by_key(|(offset, _)| *offset)?;
        *at
    }

    /// Since when the client asks to give up.
    pub fn abandon_requested(&self) -> Option<Timestamp> {
        self.abandon_requested
    }

    /// Whether the upload was given up. What is sealed never is, wherever seal and abandonment cross in the log: the client
    /// may have been told that it is sealed, so it is stored, or asked for again.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned().is_some()
    }

    /// Why and when the upload was given up.
    pub fn abandoned(&self) -> Option<(&str, Timestamp)> {
        let (reason, at) = self.abandoned.first_key_value().filter(|_| self.seals.is_empty())?;
        Some((reason, *at))
    }

    /// Why and when this generation had to be begun; `None` where it was simply opened.
    pub fn reset(&self) -> Option<(&str, Timestamp)> {
        self.resets.first_key_value().map(|(reason, at)| (reason.as_str(), *at))
    }

    /// The completion that counts: the first in the log.
    pub fn completion(&self) -> Option<&Completed> {
        lowest(&self.completions).map(|(_, c)| c)
    }

    /// The receipt. That of a generation that was disposed of vouches for nothing.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref().filter(|_| self.disposed.is_none()).map(|(receipt, _)| receipt)
    }

    /// When the generation was disposed of.
    pub fn disposed_at(&self) -> Option<Timestamp> {
        self.disposed.as_ref().map(|disposed| disposed.disposed_at)
    }

    /// When the receipt was recorded: what is kept for a time is kept from then on.
    pub fn stored_at(&self) -> Option<Timestamp> {
        self.receipt.as_ref().map(|(_, at)| *at)
    }

    /// Whether the original was read back whole.
    pub fn is_verified(&self) -> bool {
        self.verified.is_some()
    }

    /// The keys of the facts that are no longer needed once the recording is stored, or sent again: announcements, segments,
    /// claims, parts, seals and completions.
    pub fn finished_work(&self) -> Vec<Subject> {
        let acknowledged = self.acknowledged.keys();
        let mut subjects: Vec<_> = acknowledged.map(|(i, v)| Subject::Acknowledged(*i, *v)).collect();
        subjects.extend(self.announced.keys().copied().map(Subject::Announced));
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
        subjects.extend(self.disposed.as_ref().map(|_| Subject::Disposed));
        subjects
    }
}

fn lowest<T>(attempts: &BTreeMap<Nonce, (Offset, T)>) -> Option<&(Offset, T)> {
    attempts.values().min_by_key(|(offset, _)| *offset)
}

fn of_index<T>(segments: &Segments<T>, index: u32) -> impl Iterator<Item = (SegmentValue, &T)> {
    let (least, most) = (SegmentValue([0; 32]), SegmentValue([0xff; 32]));
    segments.range((index, least)..=(index, most)).map(|((_, value), known)| (*value, known))
}

/// Removes an entry. An empty tree keeps the room of its last leaf: with millions of recordings that are done with, that is
/// most of what they take.
fn release<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K) {
    map.remove(key);
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}
