use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig},
};
use caselock_runtime::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long keys that were read from a file are used.
const KEYS: Duration = Duration::from_secs(60);

/// Where the bucket is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct S3Config {
    /// The bucket: created with object lock, the same for every service.
    pub bucket: String,
    /// What every key in it begins with, `county/` for example, where others use the bucket as well; empty otherwise. Documents
    /// and receipts name keys without it. Never changed once something is stored; the same for every service.
    pub prefix: String,
    /// The region.
    pub region: String,
    /// The endpoint, for servers other than AWS's. Bucket names then go into the path.
    pub endpoint: Option<String>,
    /// The access key, or `file:PATH` of a file that has it. Without both keys, the AWS SDK's own chain is asked (environment, profile,
    /// web identity, instance).
    pub access_key: Option<Secret>,
    /// The secret key, or `file:PATH`. Files are read anew every minute.
    pub secret_key: Option<Secret>,
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
        loader = loader.credentials_provider(Keys { access: access.clone(), secret: secret.clone() });
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

/// Keys that may change in their files.
#[derive(Debug)]
struct Keys {
    access: Secret,
    secret: Secret,
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let read = || -> provider::Result {
            let access = self.access.read().map_err(CredentialsError::provider_error)?;
            let secret = self.secret.read().map_err(CredentialsError::provider_error)?;
            let changes = self.access.file().or(self.secret.file()).is_some();
            Ok(Credentials::new(access, secret, None, changes.then(|| SystemTime::now() + KEYS), "caselock"))
        };
        future::ProvideCredentials::ready(read())
    }
}
