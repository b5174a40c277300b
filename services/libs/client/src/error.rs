use std::{error::Error, io, time::Duration};

use caselock_domain::{
    reason::{DOMAIN, Reason},
    receipt::ReceiptError,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The gateway refuses it; sending the same again does not help.
    #[error("refused ({reason}): {message}{}", list(fields))]
    Refused {
        /// The stable reason.
        reason: String,
        /// What would be right.
        message: String,
        /// The fields that are wrong.
        fields: Vec<String>,
    },
    /// The gateway or the network is away, or too busy.
    #[error("not available ({reason}): {message}")]
    Unavailable {
        /// The stable reason, or the gRPC code where there is none.
        reason: String,
        /// What was said.
        message: String,
        /// How long the gateway asks to wait; zero where it says nothing.
        after: Duration,
    },
    /// The file changed while it was read, or since its upload began.
    #[error("the file changed while it was read: run the same command again when it rests")]
    Changed,
    /// The file can't be read.
    #[error("the file can't be read: {0}")]
    File(#[source] io::Error),
    /// The receipt does not verify, or vouches for something else.
    #[error("the receipt is not good: {0}")]
    Receipt(String),
}

/// What a failed connection failed by: the message alone says no more than that it did.
fn with_causes(status: &Status) -> String {
    let mut said = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // tonic's own layer says no more than that, under or over what says why.
        if !said.contains(&text) && (said.is_empty() || text != "transport error") {
            said = if said.is_empty() { text } else { format!("{said}: {text}") };
        }
        cause = error.source();
    }
    said
}

fn list(fields: &[String]) -> String {
    if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) }
}

impl UploadError {
    /// Whether the same upload may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, UploadError::Unavailable { .. })
    }

    /// Says which server could not be reached. What a server itself said is as it was.
    pub(crate) fn at(self, server: Option<&str>) -> Self {
        match (self, server) {
            (Self::Unavailable { reason, message, after }, Some(server)) if Reason::parse(&reason).is_none() => {
                Self::Unavailable { message: format!("{server}: {message}"), reason, after }
            }
            (other, _) => other,
        }
    }

    /// Whether the gateway refused for this reason.
    pub fn is(&self, wanted: Reason) -> bool {
        matches!(self, UploadError::Refused { reason, .. } if reason == wanted.as_str())
    }
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Shorter than it was a moment ago.
            io::ErrorKind::UnexpectedEof => UploadError::Changed,
            _ => UploadError::File(error),
        }
    }
}

impl From<ReceiptError> for UploadError {
    fn from(error: ReceiptError) -> Self {
        UploadError::Receipt(error.to_string())
    }
}

impl From<Status> for UploadError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
        let message = if info.is_some() { status.message().to_owned() } else { with_causes(&status) };
        let passing = match info {
            Some(_) => details.retry_info().is_some(),
            // Without our details it did not come from a gateway's rules: the network, a proxy, a restart.
            None => !matches!(status.code(), Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied),
        };
        if passing {
            let after = details.retry_info().and_then(|retry| retry.retry_delay).unwrap_or_default();
            return UploadError::Unavailable { reason, message, after };
        }
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        UploadError::Refused { reason, message, fields: violations.iter().map(|v| v.field.clone()).collect() }
    }
}
