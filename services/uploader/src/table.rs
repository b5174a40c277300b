//! Answers with rows: a table on a terminal, CSV elsewhere, a JSON object a row where that was asked for.

use std::io::{IsTerminal, stdout};

use comfy_table::{ContentArrangement, Table as Shown, presets::UTF8_BORDERS_ONLY};
use serde_json::{Map, Value};

use crate::{
    phrases::say_phrase,
    text::{is_chinese, local_time, put, say, try_say, word},
};

/// A column.
pub struct Column {
    /// Its name for machines; for people, the message `column-NAME`.
    pub name: &'static str,
    /// Whether a terminal has room for it.
    pub is_brief: bool,
    holds: Holds,
}

/// What a column's values are, for people: machines get them as they are.
enum Holds {
    /// Names, numbers and sentences.
    Text,
    /// Words of the schema; for people, the messages `word-WORD`.
    Words,
    /// Times.
    Times,
}

/// A column that is shown everywhere.
pub const fn brief(name: &'static str) -> Column {
    Column { name, is_brief: true, holds: Holds::Text }
}

/// A column of words that is shown everywhere.
pub const fn words(name: &'static str) -> Column {
    Column { holds: Holds::Words, ..brief(name) }
}

/// A column of times that is shown everywhere.
pub const fn times(name: &'static str) -> Column {
    Column { holds: Holds::Times, ..brief(name) }
}

/// A column for machines alone.
pub const fn full(name: &'static str) -> Column {
    Column { is_brief: false, ..brief(name) }
}

/// Whether a person reads what is printed. What machines read is never localised.
pub fn is_for_people(json: bool) -> bool {
    !json && stdout().is_terminal()
}

/// Prints rows, each with a value for each column.
pub fn print(columns: &[Column], rows: Vec<Vec<Value>>, json: bool) -> anyhow::Result<()> {
    if json {
        for row in rows {
            let object: Map<_, _> = columns.iter().map(|column| column.name.to_owned()).zip(row).collect();
            put(Value::Object(object))?;
        }
        return Ok(());
    }
    if !is_for_people(json) {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(columns.iter().map(|column| column.name))?;
        for row in rows {
            csv.write_record(row.iter().map(text))?;
        }
        let text = String::from_utf8(csv.into_inner()?)?;
        return Ok(put(text.trim_end_matches('\n'))?);
    }
    let mut table = Shown::new();
    let brief = columns.iter().filter(|column| column.is_brief);
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(brief.map(|column| say(&format!("column-{}", column.name), &[])));
    for row in rows {
        let brief = columns.iter().zip(&row).filter(|(column, _)| column.is_brief);
        table.add_row(brief.map(|(column, value)| column.shown(value)));
    }
    Ok(put(table)?)
}

impl Column {
    /// A value as a person reads it.
    fn shown(&self, value: &Value) -> String {
        match (&self.holds, value) {
            (Holds::Words, Value::Array(all)) => all.iter().map(|one| self.shown(one)).collect::<Vec<_>>().join("\n"),
            (Holds::Words, Value::Bool(is_so)) => word(if *is_so { "yes" } else { "no" }),
            (Holds::Words, Value::String(name)) => word(name),
            (Holds::Times, Value::String(time)) => local_time(time),
            (_, Value::Object(entry)) => {
                let mut said: Vec<_> = entry.iter().collect();
                said.sort_by_key(|(name, _)| SAID.iter().position(|known| known == name).unwrap_or(SAID.len()));
                said.into_iter().map(self::said).collect::<Vec<_>>().join("\n")
            }
            _ => text(value),
        }
    }
}

/// What an entry of a case's record may say, in the order in which it is read.
const SAID: [&str; 12] = [
    "party",
    "cause",
    "full_recording_required",
    "recordings",
    "class",
    "on",
    "kept",
    "rule",
    "until",
    "reason",
    "author",
    "reviewer",
];

/// What an entry of a case's record says of one thing: a line, as a person reads it.
fn said((name, value): (&String, &Value)) -> String {
    let value = match (name.as_str(), value) {
        ("full_recording_required", Value::Bool(is_so)) => word(if *is_so { "yes" } else { "no" }),
        ("class" | "kept", Value::String(name)) => word(name),
        ("until", Value::String(time)) => local_time(time),
        ("rule", Value::String(rule)) => period(rule),
        (_, Value::Array(all)) => all.iter().map(text).collect::<Vec<_>>().join("\n  "),
        (_, value) => text(value),
    };
    try_say(&format!("entry-{name}"), &[("value", &value)]).unwrap_or_else(|| format!("{name}: {value}"))
}

/// How a period was reckoned, as people read it.
fn period(rule: &str) -> String {
    match rule.split_once(' ').and_then(|(period, from)| Some((period.parse::<jiff::Span>().ok()?, from))) {
        Some((period, from)) if !is_chinese() => format!("{period:#} {from}"),
        _ => say_phrase(rule),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(";"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use caselock_domain::case::{CaseChange, Kept};

    use super::*;

    #[test]
    fn every_entry_of_a_record_can_be_said() {
        let text = || Some("x".to_owned());
        let entries = [
            CaseChange::Opened { party: text(), cause: text(), full_recording_required: true },
            CaseChange::Amended { party: text(), cause: text(), full_recording_required: Some(false) },
            CaseChange::Bound { recordings: Vec::new() },
            CaseChange::Closed {
                class: "10y".into(),
                on: "2026-03-31".parse().unwrap(),
                kept: Kept::Until { until: "2036-03-31T16:00:00Z".parse().unwrap() },
                rule: "P10Y from the closing day".into(),
            },
            CaseChange::Reopened { reason: "x".into() },
            CaseChange::Noted { reason: "x".into(), author: "x".into(), reviewer: "x".into() },
        ];
        for entry in entries {
            let entry = serde_json::to_value(entry).unwrap();
            for name in entry.as_object().unwrap().keys().filter(|name| *name != "kind") {
                assert!(
                    SAID.contains(&name.as_str()) && try_say(&format!("entry-{name}"), &[("value", "x")]).is_some(),
                    "{name}"
                );
            }
        }
        assert_eq!(said((&"rule".into(), &"P10Y from the closing day".into())), "period: 10y from the closing day");
        assert_eq!(said((&"new".into(), &7.into())), "new: 7");
    }
}
