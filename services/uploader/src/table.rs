//! Answers with rows: a table on a terminal, CSV elsewhere, a JSON object a row where that was asked for.

use std::io::{IsTerminal, stdout};

use comfy_table::{ContentArrangement, Table as Shown, presets::UTF8_BORDERS_ONLY};
use serde_json::{Map, Value};

use crate::text::say;

/// A column.
pub struct Column {
    /// Its name for machines; for people, the message `column-NAME`.
    pub name: &'static str,
    /// Whether a terminal has room for it.
    pub is_brief: bool,
}

/// A column that is shown everywhere.
pub const fn brief(name: &'static str) -> Column {
    Column { name, is_brief: true }
}

/// A column for machines alone.
pub const fn full(name: &'static str) -> Column {
    Column { name, is_brief: false }
}

/// Prints rows, each with a value for each column.
pub fn print(columns: &[Column], rows: Vec<Vec<Value>>, json: bool) -> anyhow::Result<()> {
    if json {
        for row in rows {
            let object: Map<_, _> = columns.iter().map(|column| column.name.to_owned()).zip(row).collect();
            println!("{}", Value::Object(object));
        }
        return Ok(());
    }
    if !stdout().is_terminal() {
        let mut csv = csv::Writer::from_writer(stdout().lock());
        csv.write_record(columns.iter().map(|column| column.name))?;
        for row in rows {
            csv.write_record(row.iter().map(text))?;
        }
        return Ok(csv.flush()?);
    }
    let mut table = Shown::new();
    let brief = columns.iter().filter(|column| column.is_brief);
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(brief.map(|column| say(&format!("column-{}", column.name), &[])));
    for row in rows {
        let brief = columns.iter().zip(&row).filter(|(column, _)| column.is_brief);
        table.add_row(brief.map(|(_, value)| text(value)));
    }
    println!("{table}");
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(";"),
        other => other.to_string(),
    }
}
