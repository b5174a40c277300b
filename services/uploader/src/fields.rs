//! Metadata as people write it: named texts, from flags and manifests, turned into the protocol's message.

use std::collections::BTreeMap;

use caselock_proto::v1 as proto;
use jiff::{Timestamp, civil::DateTime, tz};

/// A field's name, and what a Chinese manifest calls it.
const FIELDS: [(&str, &str); 23] = [
    ("file", "文件"),
    ("source", "来源"),
    ("matter", "执法事项"),
    ("record_form", "记录形式"),
    ("scene", "场景"),
    ("full_recording_required", "全程记录"),
    ("unit", "科室"),
    ("officers", "执法人员"),
    ("device_id", "设备编号"),
    ("site", "监控地点"),
    ("recorded_started_at", "开始时间"),
    ("recorded_ended_at", "结束时间"),
    ("scene_ended_at", "现场结束时间"),
    ("document_id", "文书编号"),
    ("document_started_at", "文书开始时间"),
    ("document_ended_at", "文书结束时间"),
    ("party", "当事人"),
    ("cause", "案由"),
    ("case_number", "案号"),
    ("sensitivity", "密级"),
    ("notice_given", "已告知"),
    ("content", "内容"),
    ("key", "唯一标识"),
];

/// The canonical name of a field; `None` for one that is not known.
pub fn canonical(name: &str) -> Option<&'static str> {
    let name = name.trim();
    FIELDS.iter().find(|(en, zh)| *en == name || *zh == name).map(|(en, _)| *en)
}

/// Named texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub BTreeMap<&'static str, String>);

impl Fields {
    /// From `FIELD=VALUE` texts.
    pub fn from_sets(sets: &[String]) -> Result<Self, String> {
        let mut fields = Self::default();
        for set in sets {
            let (name, value) = set.split_once('=').ok_or(format!("--set {set}: expected FIELD=VALUE"))?;
            fields.put(name, value)?;
        }
        Ok(fields)
    }

    /// Sets a field; an empty value leaves it as it is.
    pub fn put(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = canonical(name).ok_or_else(|| {
            let known: Vec<_> = FIELDS.iter().map(|(en, _)| *en).collect();
            format!("unknown field {name:?}; known are {}", known.join(", "))
        })?;
        if !value.trim().is_empty() {
            self.0.insert(name, value.trim().to_owned());
        }
        Ok(())
    }

    /// These fields, with those of `over` taking their place.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let mut all = self.clone();
        all.0.extend(over.0.iter().map(|(name, value)| (*name, value.clone())));
        all
    }

    /// A field's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The message. What is missing or wrong for the kind of source is the gateway's to say (and [`crate::session`]'s, which
    /// asks the same rules before anything is sent); here only what can't be read is refused.
    pub fn to_proto(&self, original_name: &str, content_type: &str) -> Result<proto::RecordingMetadata, String> {
        let text = |name| self.get(name).unwrap_or_default().to_owned();
        Ok(proto::RecordingMetadata {
            source: self.choice("source", "SOURCE_", |n| proto::Source::from_str_name(n).map(|v| v as i32), SOURCES)?,
            matter: self.choice("matter", "MATTER_", |n| proto::Matter::from_str_name(n).map(|v| v as i32), MATTERS)?,
            record_form: self.choice(
                "record_form",
                "RECORD_FORM_",
                |n| proto::RecordForm::from_str_name(n).map(|v| v as i32),
                FORMS,
            )?,
            scene: self.choice("scene", "SCENE_", |n| proto::Scene::from_str_name(n).map(|v| v as i32), SCENES)?,
            full_recording_required: self.flag("full_recording_required")?.unwrap_or_default(),
            unit: text("unit"),
            officers: self.officers(),
            device_id: text("device_id"),
            site: text("site"),
            recorded_started_at: self.time("recorded_started_at")?,
            recorded_ended_at: self.time("recorded_ended_at")?,
            scene_ended_at: self.time("scene_ended_at")?,
            document_id: text("document_id"),
            document_started_at: self.time("document_started_at")?,
            document_ended_at: self.time("document_ended_at")?,
            party: text("party"),
            cause: text("cause"),
            case_number: text("case_number"),
            sensitivity: self.choice(
                "sensitivity",
                "SENSITIVITY_",
                |n| proto::Sensitivity::from_str_name(n).map(|v| v as i32),
                SENSITIVITIES,
            )?,
            notice_given: self.flag("notice_given")?,
            content: text("content"),
            original_name: original_name.to_owned(),
            content_type: content_type.to_owned(),
        })
    }

    fn officers(&self) -> Vec<String> {
        let names = self.get("officers").unwrap_or_default().split([';', '；', '、', ',', '，']);
        names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// A value of an enum: the protocol's name without its prefix in any case, or the regulation's word.
    fn choice(
        &self,
        field: &str,
        prefix: &str,
        parse: impl Fn(&str) -> Option<i32>,
        chinese: &[(&str, &str)],
    ) -> Result<i32, String> {
        let Some(value) = self.get(field) else { return Ok(0) };
        let name = chinese.iter().find(|(zh, _)| *zh == value).map_or(value, |(_, en)| en);
        let name = format!("{prefix}{}", name.to_uppercase().replace([' ', '-'], "_"));
        parse(&name).filter(|number| *number != 0).ok_or_else(|| {
            let known: Vec<_> = chinese.iter().map(|(zh, en)| format!("{en} ({zh})")).collect();
            format!("{field}: {value:?} is not one of {}", known.join(", "))
        })
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, String> {
        self.get(field).map(|text| yes_or_no(field, text)).transpose()
    }

    /// RFC 3339, or a date and time without an offset, which are Shanghai's; also as devices write them into file names,
    /// where only the 14 digits count.
    fn time(&self, field: &str) -> Result<Option<caselock_domain::time::ProtoTimestamp>, String> {
        let Some(text) = self.get(field) else { return Ok(None) };
        moment(field, text).map(Some)
    }
}

/// RFC 3339, or a date, perhaps with a time, without an offset, which are Shanghai's; also the 14 digits of file names.
pub fn moment(field: &str, text: &str) -> Result<caselock_domain::time::ProtoTimestamp, String> {
    let civil = || text.replace('/', "-").parse::<DateTime>().ok().or_else(|| digits(text));
    let at = text.parse::<Timestamp>().ok().or_else(|| tz::offset(8).to_timestamp(civil()?).ok());
    let at = at.ok_or_else(|| {
        format!("{field}: {text:?} is not a time such as 2026-02-13T09:30:00+08:00 or 2026-02-13 09:30:00")
    })?;
    Ok(caselock_domain::time::to_proto(at))
}

/// Yes or no, in English or Chinese.
pub fn yes_or_no(field: &str, text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "1" | "是" => Ok(true),
        "false" | "no" | "0" | "否" => Ok(false),
        other => Err(format!("{field}: {other:?} is not yes or no (是, 否)")),
    }
}

/// `20260213093000` and the same with parting characters.
fn digits(text: &str) -> Option<DateTime> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let parting = text.chars().all(|c| c.is_ascii_digit() || "_-:. T".contains(c));
    if digits.len() != 14 || !parting {
        return None;
    }
    format!("{}T{}", &digits[..8], &digits[8..]).parse().ok()
}

const SOURCES: &[(&str, &str)] = &[
    ("照相机", "still_camera"),
    ("录音机", "audio_recorder"),
    ("摄像机", "video_camera"),
    ("执法记录仪", "body_worn_recorder"),
    ("视频监控", "fixed_camera"),
    ("文书", "document"),
    ("行政执法信息平台", "information_platform"),
];
const MATTERS: &[(&str, &str)] =
    &[("行政许可", "permit"), ("行政处罚", "penalty"), ("行政强制", "coercion"), ("行政监督检查", "inspection")];
const FORMS: &[(&str, &str)] = &[("文书", "document"), ("音像", "audiovisual"), ("电子数据", "electronic_data")];
const SCENES: &[(&str, &str)] = &[
    ("现场执法", "on_site"),
    ("调查取证", "investigation"),
    ("证据保存", "evidence_preservation"),
    ("举行听证", "hearing"),
    ("强制措施", "coercive_measure"),
    ("留置送达", "service_by_leaving"),
    ("公告送达", "service_by_announcement"),
];
const SENSITIVITIES: &[(&str, &str)] = &[
    ("国家秘密", "state_secret"),
    ("工作秘密", "work_secret"),
    ("商业秘密", "trade_secret"),
    ("个人隐私", "personal_privacy"),
];

#[cfg(test)]
mod tests {
    use caselock_domain::metadata::{Matter, Metadata, Source};

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.put(name, value).unwrap();
        }
        fields
    }

    #[test]
    fn a_chinese_row_becomes_metadata() {
        let row = fields(&[
            ("来源", "执法记录仪"),
            ("执法事项", "行政监督检查"),
            ("record_form", "audiovisual"),
            ("科室", "综合监督科"),
            ("执法人员", "张三、李四; 王五"),
            ("设备编号", "DSJ-1"),
            ("开始时间", "2026/02/13 09:30:00"),
            ("结束时间", "2026-02-13T09:40:00+08:00"),
            ("已告知", "是"),
        ]);
        let metadata = Metadata::from_proto(&row.to_proto("a.mp4", "video/mp4").unwrap()).unwrap();
        assert_eq!((metadata.source, metadata.matter), (Source::BodyWornRecorder, Matter::Inspection));
        assert_eq!(metadata.officers, ["张三", "李四", "王五"]);
        assert_eq!(metadata.recorded_started_at.unwrap().to_string(), "2026-02-13T01:30:00Z");
        assert_eq!(metadata.notice_given, Some(true));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value) in [("source", "toaster"), ("recorded_started_at", "yesterday"), ("notice_given", "maybe")] {
            let error = fields(&[(name, value)]).to_proto("a", "a/b").unwrap_err();
            assert!(error.starts_with(name) && error.contains(value), "{error}");
        }
        assert!(Fields::from_sets(&["colour=red".into()]).unwrap_err().contains("colour"));
    }

    #[test]
    fn a_row_goes_before_a_flag_unless_it_is_empty() {
        let flags = fields(&[("unit", "A"), ("site", "B")]);
        let mut row = fields(&[("unit", "C")]);
        row.put("site", " ").unwrap();
        let both = flags.with(&row);
        assert_eq!((both.get("unit"), both.get("site")), (Some("C"), Some("B")));
    }
}
