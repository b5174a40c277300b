//! Secrets in the configuration: never shown, and read anew from where they are kept.

use std::{fmt, io, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What begins the name of a file instead of a secret.
const FILE: &str = "file:";
/// What is shown instead of a secret.
const MASK: &str = "***";

/// A secret: the text itself, or `file:PATH` of a file that is read each time the secret is needed, so that it can be changed while the
/// program runs. It is neither printed nor serialised; the path of a file is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Secret(Kept);

#[derive(Clone, PartialEq, Eq)]
enum Kept {
    Here(String),
    InFile(PathBuf),
}

/// A secret's file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read the secret in {path}: {error}")]
pub struct SecretError {
    path: PathBuf,
    error: io::Error,
}

impl Secret {
    /// The secret as it is now: a file's text without the end of its last line.
    pub fn read(&self) -> Result<String, SecretError> {
        match &self.0 {
            Kept::Here(text) => Ok(text.clone()),
            Kept::InFile(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text
                    .strip_suffix('\n')
                    .map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line))
                    .to_owned()),
                Err(error) => Err(SecretError { path: path.clone(), error }),
            },
        }
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0 == Kept::Here(String::new())
    }

    /// The file it is in.
    pub fn file(&self) -> Option<&std::path::Path> {
        match &self.0 {
            Kept::Here(_) => None,
            Kept::InFile(path) => Some(path),
        }
    }
}

impl Default for Secret {
    fn default() -> Self {
        String::new().into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(match text.strip_prefix(FILE) {
            Some(path) => Kept::InFile(path.into()),
            None => Kept::Here(text),
        })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Secret> for String {
    /// What may be shown.
    fn from(secret: Secret) -> Self {
        secret.to_string()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Here(text) if text.is_empty() => Ok(()),
            Kept::Here(_) => f.write_str(MASK),
            Kept::InFile(path) => write!(f, "{FILE}{}", path.display()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_a_file_is_read_anew() {
        let here = Secret::from("hunter2");
        assert_eq!((here.read().unwrap(), format!("{here} {here:?}")), ("hunter2".into(), "*** ***".into()));
        assert_eq!(String::from(here), "***");
        assert_eq!((Secret::default().to_string(), Secret::default().is_empty()), (String::new(), true));

        let path = std::env::temp_dir().join(format!("caselock-secret-{}", std::process::id()));
        let kept = Secret::from(format!("file:{}", path.display()));
        assert!(kept.read().unwrap_err().to_string().contains("caselock-secret"));
        for text in ["one\n", "two\r\n", "three"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(kept.read().unwrap(), text.trim_end());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept.to_string(), format!("file:{}", path.display()));
    }
}
