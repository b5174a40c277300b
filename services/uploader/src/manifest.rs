//! The bureau's manifest: a row of metadata for each file.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail};
use encoding_rs::{GBK, UTF_8};

use crate::{
    fields::{Fields, canonical},
    names::readable,
};

/// Rows by file: what the file's path must end with, in whole names.
#[derive(Debug, Default)]
pub struct Manifest(HashMap<String, Fields>);

impl Manifest {
    /// Reads a CSV or JSON file. UTF-8 with or without BOM, or GBK.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let text = decode(&bytes).with_context(|| format!("{}", path.display()))?;
        let rows = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            json_rows(&text)
        } else {
            csv_rows(&text)
        };
        let mut manifest = Self::default();
        for (place, row) in rows.with_context(|| format!("read {}", path.display()))? {
            let file = row.get("file").map(|f| f.replace('\\', "/"));
            let file = file.with_context(|| format!("{}: {place} names no file", path.display()))?;
            if manifest.0.insert(file.clone(), row).is_some() {
                bail!("{}: {place} names {file} a second time", path.display());
            }
        }
        Ok(manifest)
    }

    /// The row of a file: the one with the longest path that the file's ends with.
    pub fn row(&self, path: &Path) -> Option<&Fields> {
        let parts: Vec<_> = path.iter().map(readable).collect();
        (0..parts.len()).find_map(|from| self.0.get(&parts[from..].join("/")))
    }
}

/// UTF-8, with a BOM or without, or GBK.
pub fn decode(bytes: &[u8]) -> anyhow::Result<String> {
    let (text, _, bad) = UTF_8.decode(bytes);
    if !bad {
        return Ok(text.into_owned());
    }
    match GBK.decode_without_bom_handling(bytes) {
        (text, false) => Ok(text.into_owned()),
        _ => bail!("neither UTF-8 nor GBK"),
    }
}

type Rows = Vec<(String, Fields)>;

fn csv_rows(text: &str) -> anyhow::Result<Rows> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers()?.clone();
    if let Some(unknown) = headers.iter().find(|name| canonical(name).is_none()) {
        bail!("unknown column {unknown:?}");
    }
    let mut rows = Rows::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut fields = Fields::default();
        for (name, value) in headers.iter().zip(&record) {
            fields.put(name, value).map_err(anyhow::Error::msg)?;
        }
        rows.push((format!("line {line}"), fields));
    }
    Ok(rows)
}

fn json_rows(text: &str) -> anyhow::Result<Rows> {
    let objects: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).context("expected an array of objects")?;
    let mut rows = Rows::new();
    for (index, object) in objects.into_iter().enumerate() {
        let mut fields = Fields::default();
        for (name, value) in object {
            let value = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Array(items) => {
                    let texts = items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned));
                    texts.collect::<Vec<_>>().join(";")
                }
                serde_json::Value::Null => continue,
                other => other.to_string(),
            };
            fields.put(&name, &value).map_err(|e| anyhow::anyhow!("row {}: {e}", index + 1))?;
        }
        rows.push((format!("row {}", index + 1), fields));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> anyhow::Result<Manifest> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Manifest::read(&path)
    }

    #[test]
    fn every_encoding_bureaus_use_is_read() {
        let text = "文件,科室,执法人员\n现场/视频 1.mp4,综合监督科,张三\n";
        let gbk = GBK.encode(text).0;
        let bom = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        for bytes in [text.as_bytes(), &gbk, &bom] {
            let manifest = read("m.csv", bytes).unwrap();
            let row = manifest.row(Path::new("/media/usb/现场/视频 1.mp4")).unwrap();
            assert_eq!(row.get("unit"), Some("综合监督科"));
            assert!(manifest.row(Path::new("/media/usb/视频 1.mp4")).is_none());
        }
        let json = r#"[{"file": "a.mp4", "officers": ["张三", "李四"], "notice_given": true, "site": null}]"#;
        let manifest = read("m.json", json.as_bytes()).unwrap();
        assert_eq!(manifest.row(Path::new("x/a.mp4")).unwrap().get("officers"), Some("张三;李四"));
    }

    #[test]
    fn a_wrong_manifest_is_refused_where_it_is_wrong() {
        let error = |bytes: &str| format!("{:#}", read("m.csv", bytes.as_bytes()).unwrap_err());
        assert!(error("file,colour\na,b\n").contains("colour"));
        assert!(error("file,unit\n,b\n").contains("line 2"));
        assert!(error("file,unit\na,b\na,c\n").contains("second time"));
    }
}
