use anyhow::bail;
use serde::{Deserialize, Serialize};

/// The registry's settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// The database: `postgres://USER:PASSWORD@HOST/NAME`, or `sqlite:PATH?mode=rwc`.
    pub database: String,
}

impl RegistryConfig {
    /// Checks what the types of the values leave open.
    pub fn check(&self) -> anyhow::Result<()> {
        if !["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| self.database.starts_with(scheme)) {
            bail!("registry.database must be postgres://USER:PASSWORD@HOST/NAME or sqlite:PATH?mode=rwc");
        }
        Ok(())
    }
}
