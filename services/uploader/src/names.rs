//! Names of files as text. Older devices and archives write them in GBK, which is no UTF-8.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::manifest::decode;

/// A path, or a part of one, for people and for metadata. Each name in it is UTF-8, or else GBK; what is neither is marked in its
/// place.
pub fn readable(path: impl AsRef<Path>) -> String {
    let name = |bytes: &[u8]| decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned());
    path.as_ref().as_os_str().as_bytes().split(|byte| *byte == b'/').map(name).collect::<Vec<_>>().join("/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_read_as_it_was_written() {
        let gbk = encoding_rs::GBK.encode("笔录.pdf").0.into_owned();
        let path = PathBuf::from(OsString::from_vec([b"/mnt/\xe7\x9b\x98/".to_vec(), gbk].concat()));
        assert_eq!(readable(&path), "/mnt/盘/笔录.pdf");
        assert_eq!(readable(Path::new(OsString::from_vec(b"a\xff".to_vec()).as_os_str())), "a\u{fffd}");

        #[derive(Serialize, Deserialize)]
        struct Line(#[serde(with = "super")] PathBuf);
        for path in [path, "/plain/一".into()] {
            let line = serde_json::to_string(&Line(path.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&line).unwrap().0, path);
        }
    }
}
