//! What a bureau says about a recording: validated once, at the edge, into strict types.

use caselock_proto::v1 as proto;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time;

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `metadata.device_id`.
    pub field: String,
    /// What would be right.
    pub expected: String,
}

/// A strict enum beside its protobuf twin, which has an unspecified zero.
macro_rules! strict_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            fn from_proto(number: i32) -> Option<Self> {
                match proto::$name::try_from(number).ok()? {
                    proto::$name::Unspecified => None,
                    $(proto::$name::$variant => Some(Self::$variant)),+
                }
            }

            fn to_proto(self) -> i32 {
                match self { $(Self::$variant => proto::$name::$variant as i32),+ }
            }
        }
    };
}

strict_enum! {
    /// Where a recording comes from (Articles 2 and 6).
    Source {
        /// 照相机.
        StillCamera,
        /// 录音机.
        AudioRecorder,
        /// 摄像机.
        VideoCamera,
        /// 执法记录仪.
        BodyWornRecorder,
        /// 视频监控.
        FixedCamera,
        /// 文书.
        Document,
        /// 行政执法信息平台.
        InformationPlatform,
    }
}
strict_enum! {
    /// The kind of enforcement matter (Article 3).
    Matter {
        /// 行政许可.
        Permit,
        /// 行政处罚.
        Penalty,
        /// 行政强制.
        Coercion,
        /// 行政监督检查.
        Inspection,
    }
}
strict_enum! {
    /// The form of a record (Article 6).
    RecordForm {
        /// 文书.
        Document,
        /// 音像.
        Audiovisual,
        /// 电子数据.
        ElectronicData,
    }
}
strict_enum! {
    /// The scene of a recording (Article 8).
    Scene {
        /// 现场执法.
        OnSite,
        /// 调查取证.
        Investigation,
        /// 证据保存.
        EvidencePreservation,
        /// 举行听证.
        Hearing,
        /// 强制措施.
        CoerciveMeasure,
        /// 留置送达.
        ServiceByLeaving,
        /// 公告送达.
        ServiceByAnnouncement,
    }
}
strict_enum! {
    /// How confidential a recording is (Article 11).
    Sensitivity {
        /// 国家秘密.
        StateSecret,
        /// 工作秘密.
        WorkSecret,
        /// 商业秘密.
        TradeSecret,
        /// 个人隐私.
        PersonalPrivacy,
    }
}

/// Metadata that has been validated. Fixed when the upload is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Where it comes from.
    pub source: Source,
    /// The kind of matter.
    pub matter: Matter,
    /// The form of the record.
    pub record_form: RecordForm,
    /// The scene.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene: Option<Scene>,
    /// Whether the whole process had to be recorded (Article 8).
    #[serde(default)]
    pub full_recording_required: bool,
    /// 科室.
    pub unit: String,
    /// 执法人员.
    pub officers: Vec<String>,
    /// 设备编号.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The place a fixed camera watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// When the recording starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_started_at: Option<Timestamp>,
    /// When the recording ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_ended_at: Option<Timestamp>,
    /// When the process on the site ended (Article 13 counts from here).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene_ended_at: Option<Timestamp>,
    /// The number of the enforcement document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
    /// When the process starts according to the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_started_at: Option<Timestamp>,
    /// When the process ends according to the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_ended_at: Option<Timestamp>,
    /// 当事人.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<String>,
    /// 案由.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The case the recording is evidence in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_number: Option<String>,
    /// How confidential it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// Whether the person recorded was told beforehand (Article 20).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_given: Option<bool>,
    /// What was enforced against whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The name the device gave.
    pub original_name: String,
    /// The media type found in the bytes.
    pub content_type: String,
}

/// The longest text field, in characters.
pub const MAX_TEXT: usize = 200;
/// The longest description, in characters.
pub const MAX_CONTENT: usize = 4_000;
/// The longest file name, in bytes: what file systems allow.
pub const MAX_NAME: usize = 255;
/// The most officers a recording may name.
pub const MAX_OFFICERS: usize = 50;

impl Metadata {
    /// Validates what came over the wire. All wrong fields are named, not just the first.
    pub fn from_proto(message: &proto::RecordingMetadata) -> Result<Self, Vec<Violation>> {
        let mut v = Violations::default();
        let source = v.required("source", Source::from_proto(message.source), "where the recording comes from");
        let matter = v.required("matter", Matter::from_proto(message.matter), "the kind of matter (Article 3)");
        let form = RecordForm::from_proto(message.record_form);
        let record_form = v.required("record_form", form, "the form of the record (Article 6)");
        let metadata = Self {
            // Placeholders are never returned: a violation stands for each.
            source: source.unwrap_or(Source::Document),
            matter: matter.unwrap_or(Matter::Inspection),
            record_form: record_form.unwrap_or(RecordForm::Document),
            scene: v.known("scene", message.scene, Scene::from_proto),
            full_recording_required: message.full_recording_required,
            unit: v.required_text("unit", &message.unit, MAX_TEXT).unwrap_or_default(),
            officers: v.officers(&message.officers),
            device_id: v.text("device_id", &message.device_id, MAX_TEXT),
            site: v.text("site", &message.site, MAX_TEXT),
            recorded_started_at: v.time("recorded_started_at", &message.recorded_started_at),
            recorded_ended_at: v.time("recorded_ended_at", &message.recorded_ended_at),
            scene_ended_at: v.time("scene_ended_at", &message.scene_ended_at),
            document_id: v.text("document_id", &message.document_id, MAX_TEXT),
            document_started_at: v.time("document_started_at", &message.document_started_at),
            document_ended_at: v.time("document_ended_at", &message.document_ended_at),
            party: v.text("party", &message.party, MAX_TEXT),
            cause: v.text("cause", &message.cause, MAX_TEXT),
            case_number: v.text("case_number", &message.case_number, MAX_TEXT),
            sensitivity: v.known("sensitivity", message.sensitivity, Sensitivity::from_proto),
            notice_given: message.notice_given,
            content: v.text("content", &message.content, MAX_CONTENT),
            original_name: v.name(&message.original_name),
            content_type: v.content_type(&message.content_type),
        };
        if let Some(source) = source {
            metadata.check_source(source, &mut v);
        }
        metadata.check_order(&mut v);
        if v.0.is_empty() { Ok(metadata) } else { Err(v.0) }
    }

    /// The same on the wire.
    pub fn to_proto(&self) -> proto::RecordingMetadata {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let moment = |field: Option<Timestamp>| field.map(time::to_proto);
        proto::RecordingMetadata {
            source: self.source.to_proto(),
            matter: self.matter.to_proto(),
            record_form: self.record_form.to_proto(),
            scene: self.scene.map_or(0, Scene::to_proto),
            full_recording_required: self.full_recording_required,
            unit: self.unit.clone(),
            officers: self.officers.clone(),
            device_id: text(&self.device_id),
            site: text(&self.site),
            recorded_started_at: moment(self.recorded_started_at),
            recorded_ended_at: moment(self.recorded_ended_at),
            scene_ended_at: moment(self.scene_ended_at),
            document_id: text(&self.document_id),
            document_started_at: moment(self.document_started_at),
            document_ended_at: moment(self.document_ended_at),
            party: text(&self.party),
            cause: text(&self.cause),
            case_number: text(&self.case_number),
            sensitivity: self.sensitivity.map_or(0, Sensitivity::to_proto),
            notice_given: self.notice_given,
            content: text(&self.content),
            original_name: self.original_name.clone(),
            content_type: self.content_type.clone(),
        }
    }

    /// The names of the fields in which two recordings' metadata differ, in order of the schema.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (Ok(serde_json::Value::Object(a)), Ok(serde_json::Value::Object(b))) =
            (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Vec::new();
        };
        let mut names: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
        names.retain(|k| a.get(*k) != b.get(*k));
        names.into_iter().map(|k| format!("metadata.{k}")).collect()
    }

    fn check_source(&self, source: Source, v: &mut Violations) {
        let mut need = |present: bool, field: &str, why: &str| {
            if !present {
                v.push(field, why);
            }
        };
        match source {
            Source::Document => {
                need(self.document_id.is_some(), "document_id", "the document's number: documents must name one");
            }
            Source::FixedCamera => {
                need(self.site.is_some(), "site", "the place the camera watches (Article 10)");
            }
            Source::InformationPlatform => {}
            Source::StillCamera | Source::AudioRecorder | Source::VideoCamera | Source::BodyWornRecorder => {
                need(self.device_id.is_some(), "device_id", "the recording device's number (Article 19)");
            }
        }
        if source != Source::Document {
            let (start, end) = (self.recorded_started_at, self.recorded_ended_at);
            need(start.is_some(), "recorded_started_at", "when the recording starts (Article 10)");
            need(end.is_some(), "recorded_ended_at", "when the recording ends (Article 10)");
        }
    }

    fn check_order(&self, v: &mut Violations) {
        let pairs = [
            ("recorded_ended_at", self.recorded_started_at, self.recorded_ended_at),
            ("document_ended_at", self.document_started_at, self.document_ended_at),
        ];
        for (field, start, end) in pairs {
            if let (Some(start), Some(end)) = (start, end)
                && end < start
            {
                v.push(field, "not before the start");
            }
        }
    }
}

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn push(&mut self, field: &str, expected: &str) {
        let field = format!("metadata.{field}");
        // One word per field: a field that is malformed is not also missing.
        if self.0.iter().all(|v| v.field != field) {
            self.0.push(Violation { field, expected: expected.to_owned() });
        }
    }

    fn required<T>(&mut self, field: &str, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.push(field, expected);
        }
        value
    }

    fn known<T>(&mut self, field: &str, number: i32, parse: fn(i32) -> Option<T>) -> Option<T> {
        let value = parse(number);
        if value.is_none() && number != 0 {
            self.push(field, "one of the values of the schema");
        }
        value
    }

    fn text(&mut self, field: &str, value: &str, most: usize) -> Option<String> {
        if value.is_empty() {
            return None;
        }
        if value.chars().count() > most || value.chars().any(char::is_control) || value.trim() != value {
            self.push(field, &format!("at most {most} characters, none a control character, no space at the ends"));
            return None;
        }
        Some(value.to_owned())
    }

    fn required_text(&mut self, field: &str, value: &str, most: usize) -> Option<String> {
        let text = self.text(field, value, most);
        if text.is_none() {
            self.push(field, &format!("a text of 1 to {most} characters"));
        }
        text
    }

    fn officers(&mut self, officers: &[String]) -> Vec<String> {
        if !(1..=MAX_OFFICERS).contains(&officers.len()) {
            self.push("officers", "1 to 50 enforcement officers (Article 10)");
            return Vec::new();
        }
        officers
            .iter()
            .enumerate()
            .filter_map(|(i, officer)| self.required_text(&format!("officers[{i}]"), officer, MAX_TEXT))
            .collect()
    }

    fn time(&mut self, field: &str, value: &Option<prost_types::Timestamp>) -> Option<Timestamp> {
        let message = value.as_ref()?;
        let moment = time::from_proto(message);
        if moment.is_none() {
            self.push(field, "a time from year 1 to 9999, nanoseconds from 0 to 999,999,999");
        }
        moment
    }

    fn name(&mut self, name: &str) -> String {
        let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(['/', '\0']);
        if !fits {
            self.push("original_name", "the device's file name: 1 to 255 bytes, no folder");
        }
        name.to_owned()
    }

    fn content_type(&mut self, value: &str) -> String {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        let fits = value.len() <= 127 && value.split_once('/').is_some_and(|(a, b)| token(a) && token(b));
        if !fits {
            self.push("content_type", "a media type, for example video/mp4");
        }
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn body_worn() -> proto::RecordingMetadata {
        proto::RecordingMetadata {
            source: proto::Source::BodyWornRecorder as i32,
            matter: proto::Matter::Inspection as i32,
            record_form: proto::RecordForm::Audiovisual as i32,
            unit: "综合监督科".into(),
            officers: vec!["张三".into(), "李四".into()],
            device_id: "DSJ-0042".into(),
            recorded_started_at: Some(prost_types::Timestamp { seconds: 1_770_000_000, nanos: 0 }),
            recorded_ended_at: Some(prost_types::Timestamp { seconds: 1_770_000_600, nanos: 0 }),
            original_name: "现场 0001.MP4".into(),
            content_type: "video/mp4".into(),
            ..Default::default()
        }
    }

    fn fields(message: &proto::RecordingMetadata) -> Vec<String> {
        let violations = Metadata::from_proto(message).unwrap_err();
        violations.into_iter().map(|v| v.field.trim_start_matches("metadata.").to_owned()).collect()
    }

    #[test]
    fn what_is_right_passes_and_comes_back_the_same() {
        let metadata = Metadata::from_proto(&body_worn()).unwrap();
        assert_eq!(metadata.to_proto(), body_worn());
        let json = serde_json::to_string(&metadata).unwrap();
        assert_eq!(serde_json::from_str::<Metadata>(&json).unwrap(), metadata);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let nothing = proto::RecordingMetadata::default();
        assert_eq!(
            fields(&nothing),
            ["source", "matter", "record_form", "unit", "officers", "original_name", "content_type"]
        );
    }

    #[test]
    fn each_source_asks_for_its_own_fields() {
        let strip = |source: proto::Source| proto::RecordingMetadata {
            source: source as i32,
            device_id: String::new(),
            recorded_started_at: None,
            recorded_ended_at: None,
            ..body_worn()
        };
        let times = ["recorded_started_at", "recorded_ended_at"];
        use proto::Source::{AudioRecorder, BodyWornRecorder, StillCamera, VideoCamera};
        for device in [StillCamera, AudioRecorder, VideoCamera, BodyWornRecorder] {
            assert_eq!(fields(&strip(device)), ["device_id", times[0], times[1]], "{device:?}");
        }
        assert_eq!(fields(&strip(proto::Source::FixedCamera)), ["site", times[0], times[1]]);
        assert_eq!(fields(&strip(proto::Source::InformationPlatform)), times);
        assert_eq!(fields(&strip(proto::Source::Document)), ["document_id"]);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let mut m = body_worn();
        m.source = 99;
        m.scene = 99;
        m.unit = "a\nb".into();
        m.officers = vec!["ok".into(), " ".into()];
        m.original_name = "a/b".into();
        m.content_type = "video".into();
        m.recorded_ended_at = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
        let expected = ["source", "scene", "unit", "officers[1]", "original_name", "content_type", "recorded_ended_at"];
        assert_eq!(fields(&m), expected);
    }

    #[test]
    fn differences_are_named() {
        let a = Metadata::from_proto(&body_worn()).unwrap();
        let mut b = a.clone();
        b.unit = "其他".into();
        b.case_number = Some("2026-1".into());
        assert_eq!(a.differences(&b), ["metadata.unit", "metadata.case_number"]);
        assert!(a.differences(&a).is_empty());
    }
}
