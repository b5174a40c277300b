/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?} on {key}: {detail}")]
pub struct StoreError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The object's key; the bucket's or directory's name where no object is concerned.
    pub key: String,
    /// What the store said.
    pub detail: String,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such key or version.
    NotFound,
    /// The key has a current version already.
    AlreadyExists,
    /// The version is locked or held, or a lock would have been shortened.
    Locked,
    /// The bytes do not have the checksum they were sent with.
    ChecksumMismatch,
    /// The multipart upload, or one of its parts, is not there.
    MultipartGone,
    /// The store can't be reached, or not now. Whether the call took effect is not known.
    Unavailable,
    /// The credentials do not allow it.
    Denied,
    /// The call can't succeed as it is.
    Invalid,
}

impl ErrorKind {
    /// Its name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Locked => "locked",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::MultipartGone => "multipart_gone",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
        }
    }
}

impl StoreError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, key: &str, detail: impl ToString) -> Self {
        Self { kind, key: key.to_owned(), detail: detail.to_string() }
    }

    /// Whether the same call may succeed later. Credentials are given anew, so a denial may pass.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Denied)
    }
}
