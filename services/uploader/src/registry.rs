//! The connection to the registry, and what its answers have in common.

use std::path::PathBuf;

use anyhow::{Context, bail};
use caselock_client::{Connect, Tls, UploadError, registry};
use caselock_domain::time::{ProtoTimestamp, from_proto};
use caselock_proto::v1::{
    Case, CaseEntry, CaseName, GetCaseRequest, RaisedFlag, registry_service_client::RegistryServiceClient,
};
use serde_json::Value;
use tonic::{Response, Status, transport::Channel};

use crate::{args, text::say, usage};

/// Asked for at once.
const PAGE: u32 = 500;

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
        (Some(ca), Some(cert), Some(key)) => {
            let tls = Tls { ca: read(ca)?, certificate: read(cert)?, key: read(key)? };
            for (path, pem) in [(ca, &tls.ca), (cert, &tls.certificate)] {
                if !pem.contains("-----BEGIN CERTIFICATE-----") {
                    bail!("{}: there is no certificate (PEM) in it", path.display());
                }
            }
            Ok(Some(tls))
        }
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

/// At most so many, page after page: each is asked for by its size and token, and answers with what it has and the next token.
/// Where that may not be all, it is said.
pub async fn pages<T>(
    most: u32,
    mut ask: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), UploadError>,
) -> Result<Vec<T>, UploadError> {
    let (mut all, mut left, mut token) = (Vec::new(), most, String::new());
    while left > 0 {
        let (page, next) = ask(left.min(PAGE), token).await?;
        left -= (page.len() as u32).min(left);
        all.extend(page);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
    // On standard error: what machines read is the rows alone.
    eprintln!("{}", say("limited", &[("limit", &most.to_string())]));
    Ok(all)
}

/// A case with every entry of its record.
pub async fn whole_case(
    client: &mut RegistryServiceClient<Channel>,
    case: Option<CaseName>,
) -> Result<(Option<Case>, Vec<CaseEntry>), UploadError> {
    let mut entries = Vec::<CaseEntry>::new();
    loop {
        let after_entry = entries.last().map_or(0, |last| last.seq);
        let page = answer(client.get_case(GetCaseRequest { case: case.clone(), after_entry }).await)?;
        let is_last = page.entries.is_empty();
        entries.extend(page.entries);
        let known = entries.last().map_or(0, |last| last.seq);
        if is_last || page.case.as_ref().is_none_or(|case| known >= case.entries) {
            return Ok((page.case, entries));
        }
    }
}

/// A text; null where there is none.
pub fn text(text: String) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
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

/// The number of a schema's word that was given in small letters; 0 where none was.
pub fn named<T: Into<i32>>(word: Option<String>, prefix: &str, parse: fn(&str) -> Option<T>) -> i32 {
    word.and_then(|word| parse(&format!("{prefix}{}", word.to_uppercase()))).map_or(0, Into::into)
}

/// Flags, and what each says in more words.
pub fn flags(raised: Vec<RaisedFlag>) -> (Value, Value) {
    let words = raised.iter().map(|raised| word(raised.flag().as_str_name(), "FLAG_")).collect();
    (words, raised.into_iter().map(|raised| raised.detail).collect())
}
