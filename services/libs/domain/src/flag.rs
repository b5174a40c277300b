//! What a person should look at. A flag never blocks anything, and never changes what was said.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::metadata::{Matter, Metadata, RecordForm, Scene};

/// What a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The recording's times differ from the document's by more than is tolerated (Article 10).
    DocumentTimes,
    /// The person recorded had to be told beforehand, and it is not said that that was done (Article 20).
    NoticeMissing,
    /// It claims to have been recorded after it was stored: the device's clock is wrong.
    ClockWrong,
    /// It was stored after its deadline and every extension (Article 13).
    Late,
    /// Files of the device are missing before it (Article 21).
    SequenceGap,
    /// The case it was uploaded for is not opened long after it was stored.
    CaseNeverOpened,
    /// A case that had to be recorded has no footage, and no note of why (Articles 8 and 11).
    FootageMissing,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Flag; 7] = [
        Flag::DocumentTimes,
        Flag::NoticeMissing,
        Flag::ClockWrong,
        Flag::Late,
        Flag::SequenceGap,
        Flag::CaseNeverOpened,
        Flag::FootageMissing,
    ];

    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::DocumentTimes => "document_times",
            Flag::NoticeMissing => "notice_missing",
            Flag::ClockWrong => "clock_wrong",
            Flag::Late => "late",
            Flag::SequenceGap => "sequence_gap",
            Flag::CaseNeverOpened => "case_never_opened",
            Flag::FootageMissing => "footage_missing",
        }
    }

    /// Whether it is raised on a case, and not on a recording.
    pub fn is_of_case(self) -> bool {
        self == Self::FootageMissing
    }

    /// The flag of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.as_str() == word)
    }
}

/// What a recording's own metadata gives reason to look at, with details in words.
pub fn of_metadata(
    metadata: &Metadata,
    stored_at: Timestamp,
    tolerance: SignedDuration,
) -> impl Iterator<Item = (Flag, String)> {
    let found = [document_times(metadata, tolerance), notice_missing(metadata), clock_wrong(metadata, stored_at)];
    found.into_iter().flatten()
}

fn document_times(metadata: &Metadata, tolerance: SignedDuration) -> Option<(Flag, String)> {
    let pairs = [
        ("start", metadata.recorded_started_at, metadata.document_started_at),
        ("end", metadata.recorded_ended_at, metadata.document_ended_at),
    ];
    let differ = |(what, recorded, document): (&str, Option<Timestamp>, Option<Timestamp>)| {
        let apart = recorded?.duration_since(document?).abs();
        (apart > tolerance).then(|| format!("the {what} is {} s away from the document's", apart.as_secs()))
    };
    let details: Vec<_> = pairs.into_iter().filter_map(differ).collect();
    (!details.is_empty()).then(|| (Flag::DocumentTimes, details.join("; ")))
}

/// Notice is due where a penalty or coercive measure is carried out, or somebody is questioned, and that is recorded.
fn notice_missing(metadata: &Metadata) -> Option<(Flag, String)> {
    let is_due = matches!(metadata.matter, Matter::Penalty | Matter::Coercion)
        || matches!(metadata.scene, Some(Scene::Investigation | Scene::CoerciveMeasure));
    let is_missing = metadata.record_form == RecordForm::Audiovisual && is_due && metadata.notice_given != Some(true);
    is_missing.then(|| (Flag::NoticeMissing, "it is not said that notice of the recording was given".into()))
}

fn clock_wrong(metadata: &Metadata, stored_at: Timestamp) -> Option<(Flag, String)> {
    let claimed = metadata.recorded_ended_at.max(metadata.recorded_started_at).max(metadata.scene_ended_at)?;
    (claimed > stored_at).then(|| (Flag::ClockWrong, format!("it claims {claimed}, and was stored {stored_at}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(change: serde_json::Value) -> Metadata {
        let mut json = serde_json::json!({
            "source": "body_worn_recorder", "matter": "inspection", "record_form": "audiovisual", "unit": "u",
            "officers": ["o"], "device_id": "d", "original_name": "n", "content_type": "a/b",
            "recorded_started_at": "2026-03-02T01:00:00Z", "recorded_ended_at": "2026-03-02T02:00:00Z"
        });
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    #[track_caller]
    fn expect(change: serde_json::Value, flags: &[Flag]) {
        let stored_at = "2026-03-03T00:00:00Z".parse().unwrap();
        let metadata = metadata(change);
        let found = of_metadata(&metadata, stored_at, SignedDuration::from_mins(5));
        assert_eq!(found.map(|(flag, _)| flag).collect::<Vec<_>>(), flags);
    }

    #[test]
    fn each_flag_has_its_reason() {
        use serde_json::json;
        expect(json!({}), &[]);
        expect(json!({"document_started_at": "2026-03-02T01:05:00Z"}), &[]);
        expect(json!({"document_started_at": "2026-03-02T01:05:01Z"}), &[Flag::DocumentTimes]);
        expect(json!({"document_ended_at": "2026-03-02T01:54:00Z"}), &[Flag::DocumentTimes]);
        expect(json!({"matter": "penalty"}), &[Flag::NoticeMissing]);
        expect(json!({"matter": "penalty", "notice_given": false}), &[Flag::NoticeMissing]);
        expect(json!({"matter": "penalty", "notice_given": true}), &[]);
        expect(json!({"matter": "penalty", "record_form": "document"}), &[]);
        expect(json!({"scene": "investigation"}), &[Flag::NoticeMissing]);
        expect(json!({"recorded_ended_at": "2099-01-01T00:00:00Z"}), &[Flag::ClockWrong]);
        // Else its deadline would never come.
        expect(json!({"scene_ended_at": "2099-01-01T00:00:00Z"}), &[Flag::ClockWrong]);
        assert!(Flag::ALL.into_iter().all(|flag| Flag::parse(flag.as_str()) == Some(flag)));
    }
}
