use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig},
};
use aws_smithy_http_client::{
    ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use caselock_runtime::{
    ca,
    secret::{Secret, SecretError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attempts::Attempts;

/// How long keys that were read from files are used,
const KEYS: Duration = Duration::from_secs(60);
/// and how long those that were just changed: perhaps one of the two only.
const NEW_KEYS: Duration = Duration::from_secs(15);

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
    /// A file with the CAs (PEM) that the endpoint's certificate may be under; the system's own without it. Read at the start.
    pub ca: Option<PathBuf>,
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
            ca: None,
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
        loader = loader.credentials_provider(Keys::new(access, secret));
    }
    let shared = loader.load().await;
    let mut own = aws_sdk_s3::config::Builder::from(&shared);
    match config.trusted() {
        Ok(None) => {}
        // For the store alone: who gives out keys is somebody else.
        Ok(Some(tls)) => own = own.http_client(trusting(tls)),
        // It was there when the settings were checked. Nothing is sent to a server that the system's own do not vouch for.
        Err(error) => tracing::error!(error = format!("{error:#}"), "going on with the system's CAs"),
    }
    let own = own
        // Servers other than AWS's rarely have a name for each bucket.
        .force_path_style(config.endpoint.is_some())
        .interceptor(Attempts::new())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(own)
}

/// The SDK's own HTTP client (aws-smithy-runtime, `default_https_client`), with other CAs.
fn trusting(tls: TlsContext) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone())
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

impl S3Config {
    /// Whom to believe, where that is said.
    fn trusted(&self) -> anyhow::Result<Option<TlsContext>> {
        let Some(file) = &self.ca else { return Ok(None) };
        // The SDK takes what it can't use for a bug.
        let pem = ca::read("s3.ca", file)?;
        let store = TrustStore::empty().with_pem_certificate(pem);
        Ok(Some(TlsContext::builder().with_trust_store(store).build().context("s3.ca")?))
    }

    /// Checks that both keys are there, or none, and that they and the CAs can be read. What the address has is shown, and must not be a secret.
    pub fn check(&self) -> anyhow::Result<()> {
        let has_user = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.contains('@'));
        ensure!(!has_user, "s3.endpoint: expected an address without a user: keys are s3.access_key and s3.secret_key");
        let is_web = |endpoint: &str| endpoint.starts_with("http://") || endpoint.starts_with("https://");
        ensure!(
            self.endpoint.as_deref().is_none_or(is_web),
            "s3.endpoint: expected http://HOST:PORT or https://HOST:PORT, or none for AWS's own"
        );
        ensure!(!self.bucket.is_empty(), "s3.bucket: expected the bucket's name");
        ensure!(
            self.prefix.is_empty() || self.prefix.ends_with('/'),
            "s3.prefix: expected one that ends with a slash, or none: {}/",
            self.prefix
        );
        self.trusted()?;
        match (&self.access_key, &self.secret_key) {
            (None, None) => Ok(()),
            (Some(access), Some(secret)) => {
                for (name, key) in [("s3.access_key", access), ("s3.secret_key", secret)] {
                    ensure!(!key.read().context(name)?.is_empty(), "{name}: expected a key, and it is empty");
                }
                Ok(())
            }
            (Some(_), None) => bail!("s3.secret_key: expected one beside s3.access_key"),
            (None, Some(_)) => bail!("s3.access_key: expected one beside s3.secret_key"),
        }
    }
}

/// Keys that may change in their files.
#[derive(Debug)]
struct Keys {
    access: Secret,
    secret: Secret,
    /// As they were read last.
    last: Mutex<Option<(String, String)>>,
}

impl Keys {
    fn new(access: &Secret, secret: &Secret) -> Self {
        Self { access: access.clone(), secret: secret.clone(), last: Mutex::default() }
    }

    /// The keys now, and for how long; those before where they can't be read.
    fn read(&self) -> Result<((String, String), Option<Duration>), SecretError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match (self.access.read(), self.secret.read()) {
            (Ok(access), Ok(secret)) => (access, secret),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "going on with the keys before");
                last.clone().ok_or(error)?
            }
        };
        let is_new = last.replace(now.clone()).is_some_and(|last| last != now);
        let can_change = self.access.file().or(self.secret.file()).is_some();
        Ok((now, can_change.then_some(if is_new { NEW_KEYS } else { KEYS })))
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let read = || -> provider::Result {
            let ((access, secret), lasts) = self.read().map_err(CredentialsError::provider_error)?;
            Ok(Credentials::new(access, secret, None, lasts.map(|lasts| SystemTime::now() + lasts), "caselock"))
        };
        future::ProvideCredentials::ready(read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_their_files() {
        let file = std::env::temp_dir().join(format!("caselock-keys-{}", std::process::id()));
        std::fs::write(&file, "one\n").unwrap();
        let keys = Keys::new(&"me".into(), &format!("file:{}", file.display()).into());
        let both = |secret: &str| ("me".to_owned(), secret.to_owned());
        assert_eq!(keys.read().unwrap(), (both("one"), Some(KEYS)));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(keys.read().unwrap(), (both("two"), Some(NEW_KEYS)));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(keys.read().unwrap(), (both("two"), Some(KEYS)));
        assert_eq!(Keys::new(&"me".into(), &"here".into()).read().unwrap(), (both("here"), None));
        assert!(Keys::new(&"me".into(), &"file:/nowhere".into()).read().is_err());
        let half = S3Config { access_key: Some("me".into()), ..S3Config::default() };
        assert!(half.check().unwrap_err().to_string().contains("s3.secret_key"));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = std::env::temp_dir().join(format!("caselock-s3-ca-{}", std::process::id()));
        let config = S3Config { ca: Some(file.clone()), ..S3Config::default() };
        assert!(config.check().unwrap_err().to_string().contains("s3.ca"));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, no_certificate).unwrap();
        assert!(config.check().unwrap_err().to_string().contains("s3.ca"));
        std::fs::write(&file, "none\n").unwrap();
        assert!(config.check().unwrap_err().to_string().contains("expected certificates"));
        std::fs::remove_file(&file).unwrap();
    }
}
