//! Errors in Chinese. They are made in English, for machines and logs as well; what a person reads is looked up here.

use std::sync::LazyLock;

use caselock_client::UploadError;
use caselock_domain::reason::Reason;
use regex::Regex;

use crate::{Usage, text};

/// English, with `{}` for whatever is there, and the same in Chinese.
struct Phrase {
    english: Regex,
    chinese: &'static str,
}

static PHRASES: LazyLock<Vec<Phrase>> = LazyLock::new(|| {
    let lines = include_str!("../locales/zh/phrases.txt").lines().filter(|line| !line.starts_with('#'));
    let mut pairs: Vec<_> = lines.filter_map(|line| line.split_once('\t')).collect();
    // The most exact first: the one with the most words of its own.
    pairs.sort_by_key(|(english, _)| std::cmp::Reverse(english.replace("{}", "").len()));
    let phrases = pairs.into_iter().filter_map(|(english, chinese)| {
        let pattern = regex::escape(english).replace(r"\{\}", "(.+)");
        Some(Phrase { english: Regex::new(&format!("(?s)^{pattern}$")).ok()?, chinese })
    });
    phrases.collect()
});

/// An error as a person reads it, in the chosen language.
pub fn shown(error: &anyhow::Error) -> String {
    if !text::is_chinese() {
        return format!("{error:#}");
    }
    if let Some(Usage(error)) = error.downcast_ref() {
        return shown(error);
    }
    let causes = error.chain().map(|cause| match cause.downcast_ref::<UploadError>() {
        Some(error) => upload_error(error),
        None => phrase(&cause.to_string()),
    });
    // An error that shows its source in its own words says it once.
    let mut said: Vec<String> = Vec::new();
    for cause in causes {
        if !said.last().is_some_and(|last| last.ends_with(&cause)) {
            said.push(cause);
        }
    }
    said.join("：")
}

/// A word or sentence in the chosen language; as it is, where nobody has put it into Chinese.
pub fn say_phrase(english: &str) -> String {
    if text::is_chinese() { phrase(english) } else { english.to_owned() }
}

/// What a server says is English: its stable reason is put into Chinese, and what it adds where there are words for it.
fn upload_error(error: &UploadError) -> String {
    match error {
        UploadError::Refused { reason, message, fields } => {
            let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) };
            let what = phrase(reason) + &fields + &added(message, reason == Reason::RequestInvalid.as_str());
            text::say("refused-by-gateway", &[("reason", reason), ("what", &what)])
        }
        UploadError::Unavailable { reason, message, .. } => {
            // What failed on the way there says nothing without its message.
            let is_ours = Reason::parse(reason).is_some();
            let what = phrase(reason) + &added(message, !is_ours);
            text::say("away", &[("reason", reason), ("what", &what)])
        }
        other => phrase(&other.to_string()),
    }
}

fn added(message: &str, even_in_english: bool) -> String {
    let said = phrase(message);
    if said != message || even_in_english { format!("（{said}）") } else { String::new() }
}

fn phrase(english: &str) -> String {
    if let Some((server, why)) = english.split_once(": ").filter(|(server, _)| server.starts_with("http")) {
        return format!("{server}：{}", phrase(why));
    }
    for Phrase { english: pattern, chinese } in PHRASES.iter() {
        let Some(found) = pattern.captures(english) else { continue };
        let mut parts = found.iter().skip(1).flatten().map(|part| list(part.as_str()));
        let mut said = String::new();
        for (place, piece) in chinese.split("{}").enumerate() {
            if place > 0 {
                said += &parts.next().unwrap_or_default();
            }
            said += piece;
        }
        return said;
    }
    english.to_owned()
}

/// Several things parted by semicolons are each looked up.
fn list(english: &str) -> String {
    let parts: Vec<_> = english.split("; ").collect();
    if !parts.iter().all(|part| PHRASES.iter().any(|p| p.english.is_match(part))) {
        // One sentence, or a name and the like, which stays as it is.
        return phrase(english);
    }
    parts.into_iter().map(phrase).collect::<Vec<_>>().join("；")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_put_together_from_their_parts() {
        let english = "metadata is missing or wrong: metadata.unit: a text of 1 to 200 characters; metadata.source: where \
                       the recording comes from";
        assert_eq!(phrase(english), "元数据缺失或有误：unit：1 到 200 个字符的文字；source：记录的来源");
        assert_eq!(phrase("the file can't be read: Permission denied (os error 13)"), "无法读取文件：没有权限");
        assert_eq!(phrase("something new"), "something new");
    }

    #[test]
    fn what_libraries_say_has_no_english_left() {
        let json =
            |text: &str| serde_json::from_str::<Vec<serde_json::Map<String, serde_json::Value>>>(text).unwrap_err();
        let mut rows = csv::Reader::from_reader(&b"a,b\n1,2,3\n"[..]);
        let mut said = vec![rows.records().next().unwrap().unwrap_err().to_string()];
        said.extend(
            ["{", "[", "[{]", "[1]", "{}", "null", "[{\"a\": tru}]", "[{\"a\"}]", "[] x", "[{1: 2}]"]
                .map(|text| json(text).to_string()),
        );
        said.extend(
            ["(", ")", "[", "*", "(?P<a", "(?P<>x)", r"\q", "(?=x)"]
                .map(|text| regex::Regex::new(text).unwrap_err().to_string()),
        );
        // As tonic and rustls put them.
        said.extend(
            [
                "https://h:7443: invalid peer certificate: UnknownIssuer",
                "invalid peer certificate: certificate not valid for name \"h\"; certificate is only valid for DnsName(\"x\")",
                "invalid peer certificate: certificate expired: verification time 2 (UNIX), but certificate is not valid after 1 (1 seconds ago)",
                "https://h: dns error: failed to lookup address information: Temporary failure in name resolution",
                "https://h: tcp connect error: Connection refused (os error 111)",
                "not available (Unavailable): https://h: tls handshake eof",
                "segments: expected all 3 segments; missing: 1",
            ]
            .map(str::to_owned),
        );
        let english = Regex::new(r"[a-z]{4}").unwrap();
        for said in said {
            // The text of a pattern is shown with what is wrong in it; names are as they are.
            let chinese = phrase(&said);
            let known = ["https", "DnsName", "Unavailable", "JSON", "true、false 或 null", "segments", "UNIX"];
            let words = known.iter().fold(chinese.clone(), |text, name| text.replace(name, ""));
            assert!(!english.is_match(&words), "{said}: {chinese}");
        }
    }

    #[test]
    fn every_reason_has_words() {
        for reason in caselock_domain::reason::Reason::ALL {
            assert_ne!(phrase(reason.as_str()), reason.as_str());
        }
    }
}
