use std::error::Error;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use caselock_store::{ErrorKind, StoreError};

/// What a call was for: some codes mean different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Creating, reading, listing.
    Plain,
    /// Parts, completion, abortion.
    Multipart,
    /// Deleting a version or changing its lock, where a denial is the lock's.
    Lock,
}

/// An S3 error in our terms.
pub fn convert<E>(key: &str, call: Call, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
    let kind = kind(call, &code, status, matches!(error, SdkError::ConstructionFailure(_)));
    StoreError::new(kind, key, detail(&error, status))
}

/// What the store answered, or what kept us from asking. (The SDK's own text has the whole response twice.)
fn detail<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (Some(status), Some(answer)) = (status, error.as_service_error()) else {
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        return text;
    };
    let (code, message) = (answer.code().unwrap_or("no code of S3's"), answer.message().unwrap_or("no message"));
    format!("HTTP {status}, {code}: {message} (request {})", error.request_id().unwrap_or("without id"))
}

fn kind(call: Call, code: &str, status: Option<u16>, is_construction: bool) -> ErrorKind {
    match code {
        "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" => return ErrorKind::MultipartGone,
        "PreconditionFailed" => return ErrorKind::AlreadyExists,
        "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" => return ErrorKind::ChecksumMismatch,
        "NoSuchKey" | "NoSuchVersion" | "NotFound" => return ErrorKind::NotFound,
        // AWS answers the first, MinIO the second or third.
        "AccessDenied" | "ObjectLocked" | "InvalidRequest" | "MethodNotAllowed" if call == Call::Lock => {
            return ErrorKind::Locked;
        }
        // It will not be implemented by the next try.
        "NotImplemented" => return ErrorKind::Invalid,
        // Credentials are renewed: it passes, though its status is 400.
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => return ErrorKind::Denied,
        // Concurrent writers of one key, and what comes with status 200 or 400: it passes.
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "SlowDown"
        | "RequestTimeout"
        | "IncompleteBody"
        | "InternalError"
        | "ServiceUnavailable"
        | "TemporaryRedirect" => return ErrorKind::Unavailable,
        _ => {}
    }
    match status {
        // Only a code of S3's own says that an upload is gone; a proxy's 404 does not.
        Some(404) if call == Call::Multipart => ErrorKind::Unavailable,
        Some(404) => ErrorKind::NotFound,
        Some(412) => ErrorKind::AlreadyExists,
        Some(401 | 403) => ErrorKind::Denied,
        // An answer that breaks off says no more than none.
        Some(200..=299 | 408 | 409 | 429 | 500..) | None if !is_construction => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::{config::http::HttpResponse, operation::get_object::GetObjectError, primitives::SdkBody};

    use super::*;

    #[test]
    fn an_answer_that_breaks_off_is_asked_for_again() {
        let answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
        let error: SdkError<GetObjectError, _> = SdkError::response_error("the body broke off", answer);
        let error = convert("k", Call::Plain, error);
        assert!(error.is_retryable() && error.detail.ends_with("the body broke off"), "{error}");
    }
}
