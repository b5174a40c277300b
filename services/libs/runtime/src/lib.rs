//! What every service has: a clock, configuration, telemetry, an admin port, and an ordered end.

pub mod admin;
pub mod ca;
pub mod clock;
pub mod config;
pub mod count;
pub mod disk;
pub mod health;
mod quiet;
pub mod retry;
pub mod secret;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod trace;
pub mod watched;

/// Where settings come from, as flags say.
#[derive(Debug, Clone, clap::Args)]
pub struct Layers {
    /// The configuration file (TOML). The environment (CASELOCK__SECTION__KEY) and --set override it.
    #[arg(long, env = "CASELOCK_CONFIG", value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Sets one value, for example --set gateway.listen=127.0.0.1:7443
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// The flags every service takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    #[command(flatten)]
    layers: Layers,
    /// Checks the configuration and exits.
    #[arg(long)]
    pub check_config: bool,
    /// Prints what all layers come to (TOML, secrets masked), checked or not, and exits.
    #[arg(long)]
    pub dump_config: bool,
    /// Prints a JSON Schema of the configuration, with every setting's meaning and default, and exits.
    #[arg(long)]
    pub config_schema: bool,
}

impl Flags {
    /// The layers alone, for a command that does something: an error where a flag asks for the configuration instead.
    pub fn for_a_command(&self) -> anyhow::Result<&Layers> {
        let asks = self.check_config || self.dump_config || self.config_schema;
        anyhow::ensure!(!asks, "--check-config, --dump-config and --config-schema go without a command");
        Ok(&self.layers)
    }

    /// Loads the configuration, as [`Layers::load`].
    pub fn load<T>(&self) -> Result<T, config::ConfigError>
    where
        T: serde::de::DeserializeOwned + serde::Serialize + Default + schemars::JsonSchema,
    {
        self.layers.load()
    }
}

impl Layers {
    /// Loads the configuration from file, environment and flags.
    pub fn load<T>(&self) -> Result<T, config::ConfigError>
    where
        T: serde::de::DeserializeOwned + serde::Serialize + Default + schemars::JsonSchema,
    {
        // Others' variables may be no UTF-8. Of ours such a value is one that fits nowhere.
        let variables = std::env::vars_os();
        let variables = variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        config::load(self.config.as_deref(), variables, &self.set)
    }
}
