//! `OpenUpload`.

use caselock_domain::{
    fact::{Fact, FactKey, Opened, Subject},
    id::{BureauId, IdempotencyKey, RecordingId},
    metadata::{Metadata, Violation},
    reason::Reason,
    shape::{Shape, ShapeError},
    state::{Phase, RecordingFacts},
};
use caselock_proto::v1 as proto;

use super::{Ingest, answer};
use caselock_front::Refusal;

impl Ingest {
    pub(super) async fn open(
        &self,
        bureau: BureauId,
        request: proto::OpenUploadRequest,
    ) -> Result<proto::OpenUploadResponse, Refusal> {
        let (key, metadata, shape) = validate(&request)?;
        let id = RecordingId::derive(&bureau, &key);
        let opened = Opened { bureau, key, metadata, shape, opened_at: (self.clock)() };
        if let Some(known) = self.known(id, &opened) {
            return known;
        }
        // "Not known" is only said after reading what every other gateway has written.
        self.view.catch_up(id).await?;
        if let Some(known) = self.known(id, &opened) {
            return known;
        }
        self.check_quota(&opened.bureau)?;
        let next = |facts: &RecordingFacts| facts.current() + 1;
        let generation = self.view.look(&opened.bureau, id, next).unwrap_or(0);
        let key = FactKey { recording: id, generation, subject: Subject::Opened((self.nonce)()) };
        let offset = self.view.record(&key, &Fact::Opened(Box::new(opened.clone()))).await?;
        // Two gateways may have opened at once: the first in the log is the one.
        self.view.reach(id, offset).await?;
        self.known(id, &opened)
            .unwrap_or_else(|| Err(Refusal::new(Reason::LogUnavailable, "the opening is not visible yet: try again")))
    }

    /// What is there already; `None` where there is nothing, or what was given up or disposed of.
    fn known(&self, id: RecordingId, wanted: &Opened) -> Option<Result<proto::OpenUploadResponse, Refusal>> {
        self.view
            .look(&wanted.bureau, id, |facts| {
                if matches!(facts.phase(), Some(Phase::Abandoned | Phase::Disposed)) {
                    return None;
                }
                let opened = facts.opened()?;
                let conflicts = conflicts(opened, wanted);
                if !conflicts.is_empty() {
                    return Some(Err(Refusal {
                        reason: Reason::OpenConflict,
                        message: "the recording was opened with other fields, and stays as it was opened".into(),
                        violations: conflicts,
                        recording: Some(id),
                    }));
                }
                let recording = Some(answer::recording(id, facts));
                Some(Ok(proto::OpenUploadResponse { recording, held: answer::held(facts) }))
            })
            .flatten()
    }

    fn check_quota(&self, bureau: &BureauId) -> Result<(), Refusal> {
        let (usage, _) = self.view.usage(bureau);
        if usage.open_uploads >= self.config.open_uploads_per_bureau {
            let most = self.config.open_uploads_per_bureau;
            return Err(Refusal::new(Reason::Quota, format!("the bureau has {most} uploads open: finish some first")));
        }
        Ok(())
    }
}

fn conflicts(there: &Opened, wanted: &Opened) -> Vec<Violation> {
    let mut fields = there.metadata.differences(&wanted.metadata);
    if there.shape.size != wanted.shape.size {
        fields.push("size".into());
    }
    fields.into_iter().map(|field| Violation { field, expected: "the value it was opened with".into() }).collect()
}

fn validate(request: &proto::OpenUploadRequest) -> Result<(IdempotencyKey, Metadata, Shape), Refusal> {
    let mut violations = Vec::new();
    let key = request.idempotency_key.parse::<IdempotencyKey>();
    if let Err(error) = &key {
        violations.push(Violation { field: error.field.into(), expected: error.expected.into() });
    }
    let shape = Shape::for_size(request.size);
    if let Err(error) = &shape {
        violations.push(Violation { field: "size".into(), expected: error.to_string() });
    }
    let message = request.metadata.clone().unwrap_or_default();
    match (key, Metadata::from_proto(&message), shape) {
        (Ok(key), Ok(metadata), Ok(shape)) => Ok((key, metadata, shape)),
        (Ok(_), Ok(_), Err(error)) => {
            let reason = match error {
                ShapeError::Empty => Reason::RecordingEmpty,
                ShapeError::TooLarge => Reason::RecordingTooLarge,
            };
            Err(Refusal::field(reason, "size", error.to_string()))
        }
        (_, metadata, _) => {
            violations.extend(metadata.err().unwrap_or_default());
            let fields: Vec<_> = violations.iter().map(|v| format!("{}: expected {}", v.field, v.expected)).collect();
            let message = format!("the request has wrong or missing fields: {}", fields.join("; "));
            Err(Refusal { reason: Reason::MetadataInvalid, message, violations, recording: None })
        }
    }
}
