//! Layered configuration: defaults, then a TOML file, then the environment, then flags. Unknown keys are refused.

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// What environment variables of ours begin with. Two underscores part section and key, since a single one would collide
/// with what Kubernetes injects for a Service named `caselock`.
const PREFIX: &str = "CASELOCK__";

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}, line {line}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where. What stands there may be a secret.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A flag is not SECTION.KEY=VALUE.
    #[error("--set {0}: expected SECTION.KEY=VALUE")]
    Set(String),
    /// No such key.
    #[error("unknown key {key}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The key.
        key: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// A value does not fit its key.
    #[error("{0}")]
    Value(String),
}

/// Loads a configuration of type `T`.
pub fn load<T: DeserializeOwned + Serialize + Default + JsonSchema>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<T, ConfigError> {
    let defaults = Table::try_from(T::default()).map_err(|e| ConfigError::Value(e.to_string()))?;
    let mut table = match file {
        None => Table::new(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
            toml::from_str(&text).map_err(|error| {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                ConfigError::Syntax { path: path.to_owned(), line, problem: error.message().to_owned() }
            })?
        }
    };
    let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let path = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        put(&mut table, &defaults, &path, &value)?;
    }
    for set in sets {
        let (path, value) = set.split_once('=').ok_or_else(|| ConfigError::Set(set.clone()))?;
        put(&mut table, &defaults, path, value)?;
    }
    let mut unknown = Vec::new();
    let value: T = serde_ignored::deserialize(table, |path| unknown.push(path.to_string()))
        .map_err(|e: toml::de::Error| ConfigError::Value(without_value(e.to_string().trim())))?;
    match unknown.into_iter().next() {
        None => Ok(value),
        Some(key) => Err(ConfigError::Unknown { nearest: nearest::<T>(&key), key }),
    }
}

/// A complaint of a value that can't be, without the value, which may be a secret: serde's own is `invalid type: KIND VALUE, expected WHAT`, then
/// where.
fn without_value(complaint: &str) -> String {
    let parts = || {
        let (before, rest) = complaint.split_once("invalid ")?;
        let (what, rest) = rest.split_once(": ")?;
        let (found, expected) = rest.rsplit_once(", expected ")?;
        let kind = found.split(['`', '"']).next()?.trim_end();
        Some(format!("{before}invalid {what}: {kind}, expected {expected}"))
    };
    parts().unwrap_or_else(|| complaint.to_owned())
}

/// Puts a value given as text at its path. It takes the type of the default there; without one, it is read as TOML, or
/// else as a string.
fn put(table: &mut Table, defaults: &Table, path: &str, text: &str) -> Result<(), ConfigError> {
    // A section whose keys are another program's: they may have dots, and its values are texts.
    let foreign = path
        .match_indices('.')
        .map(|(at, _)| path.split_at(at))
        .find(|(section, _)| matches!(lookup(defaults, section), Some(Value::Table(table)) if table.is_empty()));
    let value = match lookup(defaults, path) {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        None if foreign.is_some() => Value::String(text.to_owned()),
        _ => parse(text).unwrap_or_else(|| Value::String(text.to_owned())),
    };
    let (sections, last) = match foreign {
        Some((section, key)) => (section, &key[1..]),
        None => path.rsplit_once('.').unwrap_or(("", path)),
    };
    let mut table = table;
    for key in sections.split('.').filter(|_| !sections.is_empty()) {
        table = match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            _ => return Err(ConfigError::Value(format!("{path}: {key} is not a section"))),
        };
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

fn parse(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value")
}

fn lookup<'t>(table: &'t Table, path: &str) -> Option<&'t Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match table.get(first)? {
        Value::Table(inner) if !rest.is_empty() => lookup(inner, rest),
        value => Some(value),
    }
}

/// A JSON Schema without references: each setting is where it belongs.
pub fn schema<T: JsonSchema>() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

fn nearest<T: JsonSchema>(key: &str) -> Option<String> {
    let mut known = Vec::new();
    paths(&schema::<T>(), "", &mut known);
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&k, key), k))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Sections and settings of a schema, those without a default as well.
fn paths(schema: &serde_json::Value, prefix: &str, into: &mut Vec<String>) {
    // A section that may be left out is one of several.
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        paths(alternative, prefix, into);
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        paths(inner, &path, into);
        into.push(path);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Demo {
        gateway: Section,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Section {
        listen: String,
        budget: u64,
        bureau: Option<String>,
        properties: BTreeMap<String, String>,
    }

    impl Default for Section {
        fn default() -> Self {
            Self { listen: "127.0.0.1:1".into(), budget: 7, bureau: None, properties: BTreeMap::new() }
        }
    }

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        let pairs: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        pairs.into_iter()
    }

    #[test]
    fn each_layer_overrides_the_one_below() {
        let dir = std::env::temp_dir().join(format!("caselock-config-{}", std::process::id()));
        std::fs::write(&dir, "[gateway]\nlisten = 'file'\nbudget = 1\n").unwrap();
        let vars = [("CASELOCK__GATEWAY__BUDGET", "2"), ("CASELOCK__GATEWAY__BUREAU", "demo"), ("CASELOCK_PORT", "x")];
        let demo: Demo = load(Some(&dir), env(&vars), &["gateway.bureau=cli".into()]).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let bureau = Some("cli".into());
        let gateway = Section { listen: "file".into(), budget: 2, bureau, ..Section::default() };
        assert_eq!(demo, Demo { gateway });
    }

    #[test]
    fn keys_of_another_program_may_have_dots() {
        let set = "gateway.properties.ssl.key.password=1".to_owned();
        let demo: Demo = load(None, env(&[("CASELOCK__GATEWAY__PROPERTIES__ACKS", "all")]), &[set]).unwrap();
        let expected = [("acks", "all"), ("ssl.key.password", "1")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(demo.gateway.properties, BTreeMap::from(expected));
    }

    #[test]
    fn unknown_keys_are_refused_and_the_nearest_is_named() {
        let error = load::<Demo>(None, env(&[("CASELOCK__GATEWAY__LISTENN", "x")]), &[]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key gateway.listenn; did you mean gateway.listen?");
        // One without a default, and a section.
        let error = load::<Demo>(None, env(&[]), &["gateway.bureua=x".into()]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key gateway.bureua; did you mean gateway.bureau?");
        let error = load::<Demo>(None, env(&[]), &["gatway.bureau=x".into()]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key gatway; did you mean gateway?");
        let error = load::<Demo>(None, env(&[]), &["gateway.budget=much".into()]).unwrap_err();
        assert!(error.to_string().contains("u64"), "{error}");
        assert!(load::<Demo>(None, env(&[]), &["x".into()]).is_err());
        let error = load::<Demo>(None, env(&[("CASELOCK__GATEWAY__BUREAU", "12345")]), &[]).unwrap_err().to_string();
        assert!(error.contains("bureau") && error.contains("string") && !error.contains("12345"), "{error}");
        let wrong = [
            ("CASELOCK__GATEWAY__PROPERTIES", "sasl.password=hunter2, expected `x`"),
            ("CASELOCK__GATEWAY__BUDGET", "-7"),
        ];
        for ((name, value), said) in wrong.into_iter().zip(["string, expected a map", "integer, expected u64"]) {
            let error = load::<Demo>(None, env(&[(name, value)]), &[]).unwrap_err().to_string();
            let key = name.rsplit("__").next().unwrap().to_lowercase();
            assert!(error.contains(said) && error.contains(&key) && !error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        let file = std::env::temp_dir().join(format!("caselock-config-secret-{}", std::process::id()));
        std::fs::write(&file, "[gateway]\nlisten = 'x'\nbureau = \"hunter2\n").unwrap();
        let error = load::<Demo>(Some(&file), env(&[]), &[]).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains(", line 3: ") && !error.contains("hunter2"), "{error}");
    }
}
