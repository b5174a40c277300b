use std::time::Duration;

use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{Credentials, RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig},
};
use serde::{Deserialize, Serialize};

/// Where the bucket is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Config {
    /// The bucket: created with object lock.
    pub bucket: String,
    /// What every key in it begins with, `county/` for example, where others use the bucket as well; empty otherwise. Documents
    /// and receipts name keys without it. Never changed once something is stored.
    pub prefix: String,
    /// The region.
    pub region: String,
    /// The endpoint, for servers other than AWS's.
    pub endpoint: Option<String>,
    /// The access key. Without it, the AWS SDK's own chain is asked (environment, profile, web identity, instance).
    pub access_key: Option<String>,
    /// The secret key.
    pub secret_key: Option<String>,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: "caselock".into(),
            prefix: String::new(),
            region: "us-east-1".into(),
            endpoint: None,
            access_key: None,
            secret_key: None,
        }
    }
}

/// A client for the configuration. Checksums are our own: the SDK adds none.
pub async fn connect(config: &S3Config) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
        .operation_attempt_timeout(Duration::from_secs(120))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2));
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(access), Some(secret)) = (&config.access_key, &config.secret_key) {
        loader = loader.credentials_provider(Credentials::new(access, secret, None, None, "caselock"));
    }
    let shared = loader.load().await;
    let own = aws_sdk_s3::config::Builder::from(&shared)
        // Servers other than AWS's rarely have a name for each bucket.
        .force_path_style(config.endpoint.is_some())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(own)
}
