//! The connection to the registry, and what its answers have in common.

use std::path::PathBuf;

use anyhow::{Context, bail};
use caselock_client::{Connect, Tls, UploadError, registry};
use caselock_domain::time::{ProtoTimestamp, from_proto};
use caselock_proto::v1::{CaseName, registry_service_client::RegistryServiceClient};
use serde_json::Value;
use tonic::{Response, Status, transport::Channel};

use crate::{args, usage};

/// The client of the registry that the arguments name.
pub fn client(arguments: &args::Registry) -> anyhow::Result<RegistryServiceClient<Channel>> {
    let tls = tls(arguments.ca.as_ref(), arguments.cert.as_ref(), arguments.key.as_ref()).map_err(usage)?;
    let connect = Connect { servers: vec![arguments.registry.clone()], tls };
    let client = registry(&connect).context("use --registry, --ca, --cert and --key").map_err(usage)?;
    client.context("use --registry, --ca, --cert and --key")
}

/// The PEM files of an identity; they belong together.
pub fn tls(ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>) -> anyhow::Result<Option<Tls>> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) => Ok(Some(Tls { ca: read(ca)?, certificate: read(cert)?, key: read(key)? })),
        (None, None, None) => Ok(None),
        _ => bail!("--ca, --cert and --key belong together"),
    }
}

/// A case of the bureau that is meant.
pub fn case_name(arguments: &args::Registry, number: &str) -> Option<CaseName> {
    Some(CaseName { bureau: arguments.bureau.clone(), number: number.to_owned() })
}

/// What was answered, or why not.
pub fn answer<T>(answered: Result<Response<T>, Status>) -> Result<T, UploadError> {
    Ok(answered?.into_inner())
}

/// A time as machines and people read it.
pub fn time(at: Option<ProtoTimestamp>) -> Value {
    at.and_then(|at| from_proto(&at)).map_or(Value::Null, |at| at.to_string().into())
}

/// An enum's name without its prefix, in small letters; empty where it says nothing.
pub fn word(name: &str, prefix: &str) -> Value {
    match name.trim_start_matches(prefix).to_lowercase().as_str() {
        "unspecified" => Value::Null,
        word => word.into(),
    }
}
