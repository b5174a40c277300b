//! Names of files as text. Older devices and archives write them in GBK, which is no UTF-8.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::manifest::decode;

/// A path, or a part of one, for people and for metadata: UTF-8, or else GBK; what is neither is marked in its place.
pub fn readable(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    decode(path.as_os_str().as_bytes()).unwrap_or_else(|_| path.to_string_lossy().into_owned())
}

/// For machines that are told of a file: as people read it.
pub fn in_text<S: Serializer>(path: &&Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&readable(path))
}

/// In the journal, where it must be found again: the text, or the bytes of what is no UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Exact {
    Text(PathBuf),
    Bytes { bytes: Vec<u8> },
}

/// Writes a path so that it can be read back exactly.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let exact = match path.to_str() {
        Some(text) => Exact::Text(text.into()),
        None => Exact::Bytes { bytes: path.as_os_str().as_bytes().to_vec() },
    };
    exact.serialize(serializer)
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match Exact::deserialize(deserializer)? {
        Exact::Text(path) => path,
        Exact::Bytes { bytes } => OsString::from_vec(bytes).into(),
    })
}
