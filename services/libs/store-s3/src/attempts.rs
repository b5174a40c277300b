//! What is looked at before a request goes: whether it goes again, which the SDK does by itself within one call, and that nothing goes
//! unguarded.

use std::{error::Error, fmt};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef};
use aws_smithy_runtime_api::client::{orchestrator::Metadata, retries::RequestAttempts};
use caselock_runtime::count::counter_by;
use opentelemetry::{KeyValue, metrics::Counter};

const OPERATION: &str = "operation";

/// Counts `caselock_store_retries`, by S3's operation; refuses what would go neither signed nor beneath TLS.
pub struct Attempts(Counter<u64>);

impl Attempts {
    pub fn new() -> Self {
        Self(counter_by("caselock-store", "caselock_store_retries", OPERATION, []))
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempts")
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(operation) = cfg.load::<Metadata>().map(|metadata| metadata.name().to_owned()) else { return Ok(()) };
        let is_again = cfg.load::<RequestAttempts>().is_some_and(|attempts| attempts.attempts() > 1);
        // There from an operation's first call on, at 0.
        self.0.add(u64::from(is_again), &[KeyValue::new(OPERATION, operation)]);
        Ok(())
    }

    /// The SDK may have found an endpoint by itself, in its environment or a profile: bytes that are not signed never go without TLS.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let request = context.request();
        let is_unsigned = request.headers().get("x-amz-content-sha256") == Some("UNSIGNED-PAYLOAD");
        if is_unsigned && !request.uri().starts_with("https://") {
            return Err("the store's address has no TLS: name it as s3.endpoint, so that all bytes are signed".into());
        }
        Ok(())
    }
}
