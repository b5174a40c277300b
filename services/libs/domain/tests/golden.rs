//! Records as they lie in logs and stores since they were first written. What these lines say must stay readable for ever:
//! a change here is a change of what bureaus' data means.
//!
//! `golden.txt` is what today's code writes; `CASELOCK_WRITE_GOLDEN=1 cargo test` writes the file anew. `first-release.txt` is what the
//! pipeline's first release wrote: it never changes, and today's code reads it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use bytes::Bytes;
use caselock_domain::{
    dead_letter,
    digest::{Blake3, SegmentValue},
    event::{Envelope, EventRecord, REGISTRY, RecordingEvent, RegistryEvent, media_job},
    fact::{self, Acknowledged, Announced, Completed, Disposed, Fact, FactKey, Opened, PartStored, Subject},
    footage::SegmentRef,
    id::RecordingId,
    metadata::Metadata,
    receipt::Receipt,
    shape::Shape,
    time::{Timestamp, to_proto},
};
use caselock_proto::{
    events::v1::{
        DeadlineMissed, RecordingAbandoned, RecordingDerivationFailed, RecordingDerived, RecordingResendNeeded,
        RecordingStored, RecordingVerificationFailed, RecordingVerified,
    },
    log::v1::MediaJob,
    v1::{Matter, RecordForm, RecordingMetadata, Source},
};
use prost::Message;

fn at() -> Timestamp {
    "2026-11-20T01:30:00Z".parse().unwrap()
}

fn recording() -> RecordingId {
    RecordingId::derive(&"demo".parse().unwrap(), &"cam-7:1048576:abc".parse().unwrap())
}

fn metadata() -> Metadata {
    let message = RecordingMetadata {
        source: Source::BodyWornRecorder as i32,
        matter: Matter::Inspection as i32,
        record_form: RecordForm::Audiovisual as i32,
        unit: "综合监督科".into(),
        officers: vec!["张三".into()],
        device_id: "DSJ-0042".into(),
        recorded_started_at: Some(to_proto(at())),
        recorded_ended_at: Some(to_proto(at())),
        case_number: "2026-罚-17".into(),
        notice_given: Some(true),
        original_name: "现场 0001.MP4".into(),
        content_type: "video/mp4".into(),
        ..Default::default()
    };
    Metadata::from_proto(&message).unwrap()
}

fn facts() -> Vec<(&'static str, Subject, Fact)> {
    let (value, root) = (SegmentValue([2; 32]), Some(Blake3([3; 32])));
    let opened = Opened {
        bureau: "demo".parse().unwrap(),
        key: "cam-7:1048576:abc".parse().unwrap(),
        metadata: metadata(),
        shape: Shape { segment_size: 8 << 20, size: Some(1_048_576) },
        opened_at: at(),
    };
    let announced =
        Announced { bureau: opened.bureau.clone(), key: opened.key.clone(), metadata: metadata(), announced_at: at() };
    let disposed = Disposed { bureau: "demo".parse().unwrap(), disposed_at: at() };
    let acknowledged = Acknowledged { length: 1_048_576, footage_offset: 41, root, at: None };
    let with_time = Acknowledged { at: Some(at()), ..acknowledged.clone() };
    let part = PartStored { length: 1_048_576, etag: "\"e\"".into(), crc64nvme: 7, multipart_id: "m".into(), root };
    let completed = Completed {
        version: "v".into(),
        stored_at: at(),
        lock_until: "2027-05-20T16:00:00Z".parse().unwrap(),
        legal_hold: true,
        crc64nvme: 7,
    };
    let receipt = Receipt { payload: b"{}".to_vec(), key_id: "k".into(), signature: vec![4; 64] };
    vec![
        ("opened", Subject::Opened([1; 16]), Fact::Opened(Box::new(opened))),
        ("acknowledged", Subject::Acknowledged(0, value), Fact::Acknowledged(acknowledged)),
        ("claimed", Subject::Claimed("m".into()), Fact::Claimed(at())),
        ("part-stored", Subject::PartStored(0, value), Fact::PartStored(part)),
        ("sealed", Subject::Sealed(Blake3([3; 32])), Fact::Sealed(1_048_576, None)),
        ("reset", Subject::Reset("FOOTAGE_LOST".into()), Fact::Reset(at())),
        ("abandon-requested", Subject::AbandonRequested, Fact::AbandonRequested(at())),
        ("abandoned", Subject::Abandoned("EXPIRED".into()), Fact::Abandoned(at())),
        ("completed", Subject::Completed([5; 16]), Fact::Completed(completed)),
        ("receipted", Subject::Receipted, Fact::Receipted(Box::new(receipt), at())),
        ("verified", Subject::Verified, Fact::Verified(true, at())),
        ("derived", Subject::Derived, Fact::Derived(Some("NOT_MEDIA".into()), at())),
        ("announced", Subject::Announced([6; 16]), Fact::Announced(Box::new(announced))),
        ("disposed", Subject::Disposed, Fact::Disposed(disposed)),
        // The first were written without their time.
        ("acknowledged, with its time", Subject::Acknowledged(0, value), Fact::Acknowledged(with_time)),
        ("sealed, with its time", Subject::Sealed(Blake3([3; 32])), Fact::Sealed(1_048_576, Some(at()))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn segment() -> SegmentRef {
    SegmentRef { recording: recording(), generation: 1, index: 3, value: SegmentValue([2; 32]) }
}

fn job() -> MediaJob {
    MediaJob { recording_id: recording().to_string(), generation: 1, bureau: "demo".into(), version: "v".into() }
}

fn records() -> String {
    let mut text = String::new();
    for (name, subject, fact) in facts() {
        let key = FactKey { recording: recording(), generation: 1, subject };
        let (k, v) = (key.encode(), fact.encode());
        assert_eq!(fact::decode(&k, Some(&v)).unwrap(), (key, Some(fact)));
        writeln!(text, "caselock.uploads.v1 {name}\n  key {}\n  value {}", hex(&k), hex(&v)).unwrap();
    }
    let segment = segment();
    writeln!(text, "caselock.footage.v1 segment\n  key {}", recording()).unwrap();
    for (name, value) in segment.headers() {
        writeln!(text, "  {name}: {}", String::from_utf8_lossy(&value)).unwrap();
    }
    let job = job();
    writeln!(text, "caselock.media-jobs.v1 job\n  key {}\n  value {}", recording(), hex(&media_job(&job))).unwrap();
    writeln!(text, "caselock.dead-letters.v1 of a segment\n  key {}", recording()).unwrap();
    for (name, value) in dead_letter::headers("caselock.footage.v1", 7, 41, "SEGMENT_CORRUPT") {
        writeln!(text, "  {name}: {value}").unwrap();
    }
    let stored = RecordingEvent::Stored(RecordingStored {
        recording_id: recording().to_string(),
        generation: 1,
        bureau: "demo".into(),
        object_key: "v1/demo/recordings/x/1/original".into(),
        version: "v".into(),
        size: 1_048_576,
        blake3: vec![3; 32].into(),
        stored_at: Some(to_proto(at())),
        locked_until: Some(to_proto(at())),
        legal_hold: true,
        case_number: "2026-罚-17".into(),
        content_type: "video/mp4".into(),
    });
    let derived = RecordingEvent::Derived(RecordingDerived {
        recording_id: recording().to_string(),
        generation: 1,
        bureau: "demo".into(),
        derivatives: Vec::new(),
    });
    let head = || (recording().to_string(), 1, "demo".to_owned());
    let (recording_id, generation, bureau) = head();
    let resend = RecordingEvent::ResendNeeded(RecordingResendNeeded {
        recording_id,
        generation,
        bureau,
        reason: "FOOTAGE_LOST".into(),
    });
    let (recording_id, generation, bureau) = head();
    let abandoned =
        RecordingEvent::Abandoned(RecordingAbandoned { recording_id, generation, bureau, reason: "EXPIRED".into() });
    let (recording_id, generation, bureau) = head();
    let digest = |byte: u8| vec![byte; 32].into();
    let verified = RecordingEvent::Verified(RecordingVerified {
        recording_id,
        generation,
        bureau,
        blake3: digest(3),
        sha256: digest(5),
        sm3: digest(6),
    });
    let (recording_id, generation, bureau) = head();
    let failed = RecordingEvent::VerificationFailed(RecordingVerificationFailed {
        recording_id,
        generation,
        bureau,
        expected_blake3: digest(3),
        actual_blake3: digest(4),
    });
    let (recording_id, generation, bureau) = head();
    let underived = RecordingEvent::DerivationFailed(RecordingDerivationFailed {
        recording_id,
        generation,
        bureau,
        reason: "NOT_MEDIA".into(),
    });
    for event in [stored, derived, resend, abandoned, verified, failed, underived] {
        let record = event.record(&"demo".parse().unwrap(), recording(), 1, at());
        writeln!(text, "caselock.events.v1\n  key {}", String::from_utf8_lossy(&record.key)).unwrap();
        for (name, value) in record.headers {
            writeln!(text, "  {name}: {value}").unwrap();
        }
        writeln!(text, "  value {}", hex(&record.payload)).unwrap();
    }
    // An event of the registry: its id follows from what it tells.
    let (recording_id, _, bureau) = head();
    let (due, kind) = (Some(to_proto(at())), "io.caselock.deadline.missed.v1");
    let missed = DeadlineMissed { recording_id, bureau, due, provisional: false, extensions: 1 };
    let event = RegistryEvent::DeadlineMissed(missed);
    let (source, subject) = (format!("/caselock/bureaus/demo{REGISTRY}"), event.subject().to_owned());
    let envelope = Envelope { id: event.id(), source, kind, subject, at: at(), sequence: 7 };
    let record = EventRecord::new(envelope, event.payload().into());
    writeln!(text, "caselock.events.v1\n  key {}", String::from_utf8_lossy(&record.key)).unwrap();
    for (name, value) in record.headers {
        writeln!(text, "  {name}: {value}").unwrap();
    }
    writeln!(text, "  value {}", hex(&record.payload)).unwrap();
    text
}

#[test]
fn records_are_what_they_have_always_been() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    if std::env::var_os("CASELOCK_WRITE_GOLDEN").is_some() {
        std::fs::write(path, records()).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(records(), golden, "the format of records changed: data that is stored would be read wrongly");
}

/// A record as it stands in a file: its topic, what it is called there, and its lines.
struct Written<'a> {
    topic: &'a str,
    name: &'a str,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Written<'a> {
    fn all(text: &'a str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("  ") {
                None => {
                    let (topic, name) = line.split_once(' ').unwrap_or((line, ""));
                    all.push(Self { topic, name, lines: Vec::new() });
                }
                Some(line) => {
                    let (name, value) = line.split_once(' ').unwrap();
                    all.last_mut().unwrap().lines.push((name.trim_end_matches(':'), value));
                }
            }
        }
        all
    }

    fn line(&self, name: &str) -> &'a str {
        self.lines.iter().find(|(n, _)| *n == name).unwrap().1
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let hex = self.line(name).as_bytes();
        hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}

/// Of which recording an event tells, by what is in it.
fn told_of(kind: &str, value: &[u8]) -> String {
    let read = match kind {
        "io.caselock.recording.stored.v1" => RecordingStored::decode(value).map(|e| e.recording_id),
        "io.caselock.recording.derived.v1" => RecordingDerived::decode(value).map(|e| e.recording_id),
        "io.caselock.recording.resend-needed.v1" => RecordingResendNeeded::decode(value).map(|e| e.recording_id),
        "io.caselock.recording.abandoned.v1" => RecordingAbandoned::decode(value).map(|e| e.recording_id),
        "io.caselock.recording.verified.v1" => RecordingVerified::decode(value).map(|e| e.recording_id),
        "io.caselock.recording.verification-failed.v1" => {
            RecordingVerificationFailed::decode(value).map(|e| e.recording_id)
        }
        "io.caselock.recording.derivation-failed.v1" => {
            RecordingDerivationFailed::decode(value).map(|e| e.recording_id)
        }
        "io.caselock.deadline.missed.v1" => DeadlineMissed::decode(value).map(|e| e.recording_id),
        kind => panic!("nothing reads {kind}"),
    };
    read.unwrap()
}

#[test]
fn what_the_first_release_wrote_is_read() {
    let all = Written::all(include_str!("first-release.txt"));
    let facts = facts();
    for record in &all {
        match record.topic {
            "caselock.uploads.v1" => {
                let (key, fact) = fact::decode(&record.bytes("key"), Some(&record.bytes("value"))).unwrap();
                let (_, subject, expected) = facts.iter().find(|(name, ..)| *name == record.name).unwrap();
                assert_eq!((&key.subject, fact.as_ref()), (subject, Some(expected)), "{}", record.name);
                assert_eq!((key.recording, key.generation), (recording(), 1));
            }
            "caselock.footage.v1" => {
                let headers = record.lines.iter().filter(|(name, _)| *name != "key");
                let headers: Vec<_> =
                    headers.map(|(name, text)| ((*name).to_owned(), Bytes::copy_from_slice(text.as_bytes()))).collect();
                assert_eq!(SegmentRef::from_headers(&headers), Ok(segment()));
            }
            "caselock.media-jobs.v1" => assert_eq!(MediaJob::decode(&record.bytes("value")[..]).unwrap(), job()),
            "caselock.dead-letters.v1" => {
                let expected = dead_letter::headers("caselock.footage.v1", 7, 41, "SEGMENT_CORRUPT");
                assert!(expected.iter().all(|(name, value)| record.line(name) == value));
            }
            "caselock.events.v1" => {
                assert_eq!(told_of(record.line("ce_type"), &record.bytes("value")), recording().to_string());
            }
            topic => panic!("nothing reads {topic}"),
        }
    }
    assert_eq!(all.len(), 27);
}
