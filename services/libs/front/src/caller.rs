//! Who is calling: what the client's certificate says.

use caselock_domain::{id::BureauId, reason::Reason};
use tonic::Request;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

use crate::refusal::Refusal;

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The certificate's SPIFFE id: what stands in the records of what was done.
    pub name: String,
    /// The bureau it belongs to; an operator belongs to none.
    pub bureau: Option<BureauId>,
    /// Whether it may act for any bureau, and do what only an operator may.
    pub is_operator: bool,
}

impl Caller {
    /// Whoever comes in without TLS, on this machine.
    pub fn plaintext(bureau: BureauId) -> Self {
        Self { name: format!("plaintext/bureau/{bureau}"), bureau: Some(bureau), is_operator: true }
    }

    /// The caller of a request.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Refusal> {
        match request.extensions().get::<Peer>() {
            Some(Peer::Known(caller)) => Ok(caller.clone()),
            Some(Peer::Unknown(why)) => Err(Refusal::new(Reason::IdentityInvalid, why.clone())),
            None => Err(Refusal::new(Reason::IdentityInvalid, "a client certificate is needed")),
        }
    }

    /// The bureau a request comes from, where only bureaus may come.
    pub fn bureau_of<T>(request: &Request<T>) -> Result<BureauId, Refusal> {
        Self::of(request)?
            .bureau
            .ok_or_else(|| Refusal::new(Reason::IdentityInvalid, "this is for bureaus: spiffe://DOMAIN/bureau/ID"))
    }
}

/// The peer of a connection, put into each request's extensions by the server.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Who was found when the connection was made.
    Known(Caller),
    /// The certificate does not say who it is: why.
    Unknown(String),
}

/// Reads `spiffe://{domain}/{bureau|operator}/{id}`, which must be the certificate's only URI SAN.
pub fn of_certificate(der: &[u8]) -> Peer {
    match caller_of(der) {
        Ok(caller) => Peer::Known(caller),
        Err(why) => Peer::Unknown(format!(
            "the client certificate must have exactly one URI SAN, spiffe://DOMAIN/bureau/ID or \
             spiffe://DOMAIN/operator/ID: {why}"
        )),
    }
}

fn caller_of(der: &[u8]) -> Result<Caller, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "it can't be read".to_owned())?;
    let names = certificate.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris[..] else { return Err(format!("it has {}", uris.len())) };
    let path = uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let path = path.filter(|(domain, _)| !domain.is_empty()).and_then(|(_, path)| path.split_once('/'));
    let (role, id) = path.ok_or_else(|| format!("it has {uri}"))?;
    // Ids of bureaus and of operators are of one form.
    let id: BureauId = id.parse().map_err(|e| format!("{e}"))?;
    let name = (*uri).to_owned();
    match role {
        "bureau" => Ok(Caller { name, bureau: Some(id), is_operator: false }),
        "operator" => Ok(Caller { name, bureau: None, is_operator: true }),
        _ => Err(format!("it has {uri}")),
    }
}
