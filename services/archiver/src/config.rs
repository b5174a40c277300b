use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use caselock_domain::retention;
use jiff::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::signing_key::SigningKey;

/// The archiver's settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ArchiverConfig {
    /// The Ed25519 key receipts are signed with, PKCS#8 PEM. Needed. Another one in the file is taken without a restart.
    pub signing_key: PathBuf,
    /// Bytes of segments that are worked on at once. At least one segment of 16 MiB. The Kafka client fetches up to 64 MiB ahead
    /// beside it.
    pub window: u64,
    /// Days after which an upload that was never sealed is given up, counted from when the archiver began to store it, or from its
    /// opening if nothing came. Must be less than the store keeps unfinished multipart uploads.
    pub abandon_after_days: u32,
    /// Days the log remembers a stored recording.
    pub keep_facts_days: u32,
    /// How long recordings are locked at least.
    pub retention: RetentionConfig,
}

impl Default for ArchiverConfig {
    fn default() -> Self {
        Self {
            signing_key: PathBuf::new(),
            window: 128 << 20,
            abandon_after_days: 30,
            keep_facts_days: 30,
            retention: RetentionConfig::default(),
        }
    }
}

impl ArchiverConfig {
    /// Checks the periods, and that receipts can be signed.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.abandon_after_days > 0, "archiver.abandon_after_days: expected at least 1");
        ensure!(self.keep_facts_days > 0, "archiver.keep_facts_days: expected at least 1");
        self.retention.floor()?;
        SigningKey::open(&self.signing_key).map(drop)
    }
}

/// The floor.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetentionConfig {
    /// How long recordings are locked, ISO 8601 in years, months, weeks or days. Less than six months (P6M, Article 15) is refused.
    pub period: String,
    /// A short period such as `PT30S` instead. Only for tests that watch locks run out: such locks are not lawful.
    pub unlawful_period_for_tests: Option<String>,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { period: "P6M".into(), unlawful_period_for_tests: None }
    }
}

impl RetentionConfig {
    /// The period, checked.
    pub fn floor(&self) -> anyhow::Result<Span> {
        if let Some(short) = &self.unlawful_period_for_tests {
            let short = short.parse().context("archiver.retention.unlawful_period_for_tests")?;
            tracing::warn!("locks are shorter than the law asks: this is for tests only");
            return Ok(short);
        }
        let period: Span = self.period.parse().context("archiver.retention.period")?;
        if let Err(error) = retention::check_period(&period) {
            bail!("archiver.retention.period is {}: {error}", self.period);
        }
        Ok(period)
    }
}
