//! The state of a recording as a function of its facts: compaction and order change nothing.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use caselock_domain::{
    digest::{Blake3, SegmentValue},
    fact::{self, Acknowledged, Announced, Completed, Disposed, Fact, FactKey, Opened, PartStored, Subject},
    id::RecordingId,
    metadata::{Matter, Metadata, RecordForm, Source},
    receipt::Receipt,
    shape::Shape,
    state::{Phase, RecordingFacts},
    time::Timestamp,
};
use proptest::prelude::*;

type Log = Vec<(FactKey, Option<Fact>)>;

const LENGTH: u32 = 1 << 10;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn key(generation: u32, subject: Subject) -> FactKey {
    FactKey { recording: RecordingId::from_bytes([9; 16]), generation, subject }
}

fn value(n: u8) -> SegmentValue {
    SegmentValue([n; 32])
}

fn opened(generation: u32, nonce: u8) -> (FactKey, Option<Fact>) {
    let metadata = Metadata {
        source: Source::Document,
        matter: Matter::Permit,
        record_form: RecordForm::Document,
        scene: None,
        full_recording_required: false,
        unit: format!("unit of {nonce}"),
        officers: vec!["a".into()],
        device_id: None,
        site: None,
        recorded_started_at: None,
        recorded_ended_at: None,
        scene_ended_at: None,
        document_id: Some("d".into()),
        document_started_at: None,
        document_ended_at: None,
        party: None,
        cause: None,
        case_number: None,
        sensitivity: None,
        notice_given: None,
        content: None,
        original_name: "d.pdf".into(),
        content_type: "application/pdf".into(),
    };
    let shape = Shape { segment_size: LENGTH, size: None };
    let (bureau, k) = ("demo".parse().unwrap(), "k".parse().unwrap());
    let fact = Fact::Opened(Box::new(Opened { bureau, key: k, metadata, shape, opened_at: at(0) }));
    (key(generation, Subject::Opened([nonce; 16])), Some(fact))
}

fn acknowledged(generation: u32, index: u32, v: u8, offset: u64) -> (FactKey, Option<Fact>) {
    let fact = Fact::Acknowledged(Acknowledged { length: LENGTH, footage_offset: offset, root: None, at: None });
    (key(generation, Subject::Acknowledged(index, value(v))), Some(fact))
}

fn part(generation: u32, index: u32, v: u8) -> (FactKey, Option<Fact>) {
    let fact =
        PartStored { length: LENGTH, etag: format!("{index}"), crc64nvme: 7, multipart_id: "m".into(), root: None };
    (key(generation, Subject::PartStored(index, value(v))), Some(Fact::PartStored(fact)))
}

fn claimed(generation: u32, id: &str) -> (FactKey, Option<Fact>) {
    (key(generation, Subject::Claimed(id.into())), Some(Fact::Claimed(at(1))))
}

fn sealed(generation: u32, d: u8, size: u64) -> (FactKey, Option<Fact>) {
    (key(generation, Subject::Sealed(Blake3([d; 32]))), Some(Fact::Sealed(size, None)))
}

fn completed(generation: u32, nonce: u8, version: &str) -> (FactKey, Option<Fact>) {
    let fact =
        Completed { version: version.into(), stored_at: at(5), lock_until: at(500), legal_hold: false, crc64nvme: 1 };
    (key(generation, Subject::Completed([nonce; 16])), Some(Fact::Completed(fact)))
}

fn receipted(generation: u32) -> (FactKey, Option<Fact>) {
    let receipt = Receipt { payload: b"{}".to_vec(), key_id: "k".into(), signature: vec![1; 64] };
    (key(generation, Subject::Receipted), Some(Fact::Receipted(Box::new(receipt), at(5))))
}

fn reset(generation: u32, reason: &str) -> (FactKey, Option<Fact>) {
    (key(generation, Subject::Reset(reason.into())), Some(Fact::Reset(at(2))))
}

fn announced(generation: u32, nonce: u8) -> (FactKey, Option<Fact>) {
    let (_, Some(Fact::Opened(opened))) = opened(generation, nonce) else { unreachable!() };
    let Opened { bureau, key: k, metadata, .. } = *opened;
    let fact = Fact::Announced(Box::new(Announced { bureau, key: k, metadata, announced_at: at(nonce.into()) }));
    (key(generation, Subject::Announced([nonce; 16])), Some(fact))
}

fn disposed(generation: u32) -> (FactKey, Option<Fact>) {
    let fact = Fact::Disposed(Disposed { bureau: "demo".parse().unwrap(), disposed_at: at(900) });
    (key(generation, Subject::Disposed), Some(fact))
}

fn fold<'a>(records: impl IntoIterator<Item = &'a (usize, (FactKey, Option<Fact>))>) -> RecordingFacts {
    let mut facts = RecordingFacts::default();
    for (offset, (key, fact)) in records {
        facts.apply(key, *offset as u64, fact.clone());
    }
    facts
}

fn state(log: &[(FactKey, Option<Fact>)]) -> RecordingFacts {
    fold(&log.iter().cloned().enumerate().collect::<Vec<_>>())
}

fn record() -> impl Strategy<Value = (FactKey, Option<Fact>)> {
    let generation = 0u32..3;
    let fact = prop_oneof![
        (generation.clone(), 0u8..3).prop_map(|(g, n)| opened(g, n)),
        (generation.clone(), 0u32..4, 0u8..2, 0u64..50).prop_map(|(g, i, v, o)| acknowledged(g, i, v, o)),
        (generation.clone(), 0u32..4, 0u8..2).prop_map(|(g, i, v)| part(g, i, v)),
        (generation.clone(), 0u8..3).prop_map(|(g, n)| claimed(g, &n.to_string())),
        (generation.clone(), 0u8..2, 0u64..5).prop_map(|(g, d, s)| sealed(g, d, s)),
        (generation.clone(), 0u8..2).prop_map(|(g, n)| completed(g, n, &n.to_string())),
        generation.clone().prop_map(receipted),
        (generation.clone(), 0u8..2).prop_map(|(g, r)| reset(g, &r.to_string())),
        (generation.clone(), 0u8..2).prop_map(|(g, n)| announced(g, n)),
        generation.clone().prop_map(disposed),
        generation.clone().prop_map(|g| (key(g, Subject::AbandonRequested), Some(Fact::AbandonRequested(at(1))))),
        generation.prop_map(|g| (key(g, Subject::Abandoned("X".into())), Some(Fact::Abandoned(at(1))))),
    ];
    (fact, prop::bool::weighted(0.15)).prop_map(|((key, fact), gone)| (key, if gone { None } else { fact }))
}

proptest! {
    /// Whatever of the superseded records compaction has removed by now, the state is the same.
    #[test]
    fn compaction_changes_nothing(log in prop::collection::vec(record(), 0..60), dropped in prop::collection::vec(any::<bool>(), 60)) {
        let newest: HashMap<_, _> = log.iter().enumerate().map(|(offset, (key, _))| (key.clone(), offset)).collect();
        let all: Vec<_> = log.iter().cloned().enumerate().collect();
        let compacted: Vec<_> =
            all.iter().filter(|(offset, (key, _))| newest[key] == *offset || !dropped[*offset]).cloned().collect();
        prop_assert_eq!(fold(&compacted), fold(&all));
        // A tombstone goes as well, once nothing older of its key is left.
        let last: Vec<_> = all.iter().filter(|(o, (k, f))| newest[k] == *o && f.is_some()).cloned().collect();
        prop_assert_eq!(fold(&last), fold(&all));
    }

    /// Segments may become known in any order, from any number of gateways and archivers.
    #[test]
    fn the_order_of_segments_changes_nothing(
        log in prop::collection::vec((0u32..6, any::<bool>()), 0..40).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let facts: Log = log.iter().map(|(i, is_part)| if *is_part { part(0, *i, 1) } else { acknowledged(0, *i, 1, u64::from(*i)) }).collect();
        let mut other = facts.clone();
        let len = other.len().max(1);
        other.rotate_left(seed as usize % len);
        let (a, b) = (state(&facts), state(&other));
        prop_assert_eq!(a.now().map(|g| g.held_segments()), b.now().map(|g| g.held_segments()));
        prop_assert_eq!(a, b);
    }

    /// The backlog is the sum of what is acknowledged and no part, whatever came and went.
    #[test]
    fn the_backlog_adds_up(log in prop::collection::vec(record(), 0..60)) {
        let facts = state(&log);
        if let Some(now) = facts.now() {
            prop_assert_eq!(now.backlog(), now.unstored().count() as u64 * u64::from(LENGTH));
        }
    }

    #[test]
    fn facts_survive_their_records((k, f) in record()) {
        let value = f.as_ref().map(Fact::encode);
        prop_assert_eq!(fact::decode(&k.encode(), value.as_deref()).unwrap(), (k, f));
    }
}

#[test]
fn the_first_in_the_log_counts() {
    let facts = state(&[
        opened(0, 2),
        opened(0, 1),
        claimed(0, "z"),
        claimed(0, "a"),
        completed(0, 9, "v1"),
        completed(0, 1, "v2"),
    ]);
    assert_eq!(facts.opened().unwrap().metadata.unit, "unit of 2");
    let now = facts.now().unwrap();
    assert_eq!(now.claim().unwrap().0, "z");
    assert_eq!(now.losing_claims().collect::<Vec<_>>(), ["a"]);
    assert_eq!(now.completion().unwrap().version, "v1");
}

#[test]
fn what_the_object_was_made_of_is_what_was_sealed() {
    let with_root = |v: u8| {
        let fact = Acknowledged { length: LENGTH, footage_offset: 0, root: Some(Blake3([v; 32])), at: None };
        (key(0, Subject::Acknowledged(0, value(v))), Some(Fact::Acknowledged(fact)))
    };
    let values = |log: &[_]| state(log).now().unwrap().stored_values();
    // Of one segment, whatever else was sent or stored under its index.
    let log = [opened(0, 1), with_root(1), with_root(2), part(0, 0, 1), sealed(0, 2, 9)];
    assert_eq!(values(&log), [value(2)]);
    assert_eq!(values(&[opened(0, 1), part(0, 0, 1), part(0, 1, 2), sealed(0, 7, 9)]), [value(1), value(2)]);
    assert!(values(&[opened(0, 1), with_root(1), sealed(0, 2, 9)]).is_empty());
    assert!(values(&[opened(0, 1), with_root(1)]).is_empty());
}

#[test]
fn phases_follow_the_facts() {
    let mut log = vec![opened(0, 1)];
    let mut phase = |record| {
        log.push(record);
        state(&log).phase().unwrap()
    };
    assert_eq!(phase(acknowledged(0, 0, 1, 3)), Phase::Open);
    assert_eq!(phase(claimed(0, "m")), Phase::Open);
    assert_eq!(phase(part(0, 0, 1)), Phase::Open);
    assert_eq!(phase(sealed(0, 1, 9)), Phase::Sealed);
    assert_eq!(phase(completed(0, 1, "v")), Phase::Sealed);
    assert_eq!(phase(receipted(0)), Phase::Stored);
    assert_eq!(phase((key(0, Subject::Verified), Some(Fact::Verified(true, at(9))))), Phase::Verified);
    assert_eq!(phase((key(0, Subject::Derived), Some(Fact::Derived(None, at(9))))), Phase::Derived);
}

#[test]
fn what_is_sealed_is_not_given_up_wherever_the_two_cross() {
    let abandoned = || (key(0, Subject::Abandoned("X".into())), Some(Fact::Abandoned(at(1))));
    assert_eq!(state(&[opened(0, 1), abandoned()]).phase(), Some(Phase::Abandoned));
    for log in [[opened(0, 1), sealed(0, 1, 9), abandoned()], [opened(0, 1), abandoned(), sealed(0, 1, 9)]] {
        let facts = state(&log);
        assert_eq!((facts.phase(), facts.reason()), (Some(Phase::Sealed), None));
    }
}

#[test]
fn a_stored_generation_wins_over_a_higher_one() {
    let log = [opened(0, 1), receipted(0), reset(1, "LATE"), acknowledged(1, 0, 1, 1)];
    assert_eq!(state(&log).current(), 0);
    let log = [opened(0, 1), acknowledged(0, 0, 1, 1), reset(1, "LOST")];
    let facts = state(&log);
    assert_eq!((facts.current(), facts.phase(), facts.reason()), (1, Some(Phase::Open), Some("LOST")));
    assert_eq!(facts.opened().unwrap().metadata.unit, "unit of 1");
    assert!(facts.now().unwrap().held_segments().is_empty());
}

#[test]
fn what_was_disposed_of_is_stored_no_more_and_begins_anew() {
    let stored = [opened(0, 1), receipted(0)];
    let gone = state(&[&stored[..], &[disposed(0)]].concat());
    assert_eq!((gone.current(), gone.phase(), gone.now().unwrap().receipt()), (0, Some(Phase::Disposed), None));
    // Nothing else may be left of it in the log.
    let alone = state(&[disposed(0)]);
    assert_eq!((alone.phase(), alone.bureau().unwrap().as_str()), (Some(Phase::Disposed), "demo"));
    let again = state(&[&stored[..], &[disposed(0), opened(1, 2)]].concat());
    assert_eq!((again.current(), again.phase(), again.is_disposed(0)), (1, Some(Phase::Open), true));
}

#[test]
fn what_is_only_announced_is_in_no_phase() {
    let facts = state(&[announced(0, 2), announced(0, 1)]);
    assert_eq!((facts.phase(), facts.bureau().unwrap().as_str()), (None, "demo"));
    assert_eq!(facts.announced().unwrap().announced_at, at(2));
    assert_eq!(state(&[announced(0, 2), opened(0, 1)]).phase(), Some(Phase::Open));
}

#[test]
fn two_values_for_one_index_are_a_conflict() {
    assert!(state(&[opened(0, 1), acknowledged(0, 0, 1, 1), acknowledged(0, 0, 2, 2)]).now().unwrap().is_conflicting());
    assert!(state(&[opened(0, 1), acknowledged(0, 0, 1, 1), part(0, 0, 2)]).now().unwrap().is_conflicting());
    assert!(!state(&[opened(0, 1), acknowledged(0, 0, 1, 1), part(0, 0, 1)]).now().unwrap().is_conflicting());
}

#[test]
fn tidying_everything_leaves_nothing() {
    let mut log = vec![opened(0, 1), acknowledged(0, 0, 1, 1), claimed(0, "m"), part(0, 0, 1), sealed(0, 1, 3)];
    log.extend([completed(0, 1, "v"), receipted(0), reset(0, "R")]);
    let everything = state(&log).now().unwrap().everything();
    let distinct: BTreeMap<_, ()> = everything.iter().map(|s| (s.clone(), ())).collect();
    assert_eq!(distinct.len(), everything.len());
    // The completion is the last of the finished work: while it is there, the end is repeated.
    assert!(matches!(state(&log).now().unwrap().finished_work().last(), Some(Subject::Completed(_))));
    log.extend(everything.into_iter().map(|subject| (key(0, subject), None)));
    assert!(state(&log).is_empty());
}

#[test]
fn keys_are_fixed_for_ever() {
    let k = key(7, Subject::Acknowledged(5, value(1)));
    let expected = ["09".repeat(16), "00000007".into(), "02".into(), "00000005".into(), "01".repeat(32)].concat();
    assert_eq!(hex(&k.encode()), expected);
    assert!(FactKey::decode(&[0; 20]).is_err());
    assert!(FactKey::decode(&[[0; 20].as_slice(), &[99]].concat()).is_err());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
