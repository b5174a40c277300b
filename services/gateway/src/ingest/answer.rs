//! What clients are told of a recording.

use caselock_domain::{
    id::RecordingId,
    reason::Reason,
    receipt::Receipt,
    state::{Phase, RecordingFacts},
};
use caselock_proto::v1 as proto;

use caselock_front::Refusal;

/// A recording as a client sees it.
pub fn recording(id: RecordingId, facts: &RecordingFacts) -> proto::Recording {
    let opened = facts.opened();
    let receipt = facts.now().and_then(|g| g.receipt());
    proto::Recording {
        recording_id: id.to_string(),
        generation: facts.current(),
        state: state(facts.phase()) as i32,
        segment_size: opened.map_or(0, |o| o.shape.segment_size),
        declared_size: opened.and_then(|o| o.shape.size),
        receipt: receipt.map(Receipt::to_proto),
        reason: facts.reason().unwrap_or_default().to_owned(),
        original_name: opened.map(|o| o.metadata.original_name.clone()).unwrap_or_default(),
    }
}

/// The segments held of the current generation.
pub fn held(facts: &RecordingFacts) -> Vec<proto::HeldSegment> {
    let held = facts.now().map(|g| g.held_segments()).unwrap_or_default();
    let segment = |(index, (value, _)): (u32, (caselock_domain::digest::SegmentValue, u32))| proto::HeldSegment {
        index,
        value: value.0.to_vec().into(),
    };
    held.into_iter().map(segment).collect()
}

/// The refusal of whatever needs an open upload.
pub fn closed(why: &str) -> Refusal {
    Refusal::new(Reason::UploadClosed, format!("the upload takes no more: {why}; ask GetUpload how it stands"))
}

fn state(phase: Option<Phase>) -> proto::RecordingState {
    match phase {
        None => proto::RecordingState::Unspecified,
        Some(Phase::Open) => proto::RecordingState::Open,
        Some(Phase::Sealed) => proto::RecordingState::Sealed,
        Some(Phase::Stored) => proto::RecordingState::Stored,
        Some(Phase::Verified) => proto::RecordingState::Verified,
        Some(Phase::Derived) => proto::RecordingState::Derived,
        Some(Phase::Abandoned) => proto::RecordingState::Abandoned,
        Some(Phase::Disposed) => proto::RecordingState::Disposed,
    }
}
