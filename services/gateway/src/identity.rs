//! Who is calling: the bureau of the client's certificate.

use caselock_domain::{id::BureauId, reason::Reason};
use tonic::Request;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

use crate::refusal::Refusal;

/// The caller of a connection, put into each request's extensions by the server.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The bureau that was found when the connection was made.
    Bureau(BureauId),
    /// The certificate does not name a bureau: why.
    Unknown(String),
}

/// The bureau a request comes from.
pub fn bureau<T>(request: &Request<T>) -> Result<BureauId, Refusal> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Bureau(bureau)) => Ok(bureau.clone()),
        Some(Peer::Unknown(why)) => Err(Refusal::new(Reason::IdentityInvalid, why.clone())),
        None => Err(Refusal::new(Reason::IdentityInvalid, "a client certificate is needed")),
    }
}

/// Reads `spiffe://{domain}/bureau/{id}`, which must be the certificate's only URI SAN.
pub fn of_certificate(der: &[u8]) -> Peer {
    match bureau_of(der) {
        Ok(bureau) => Peer::Bureau(bureau),
        Err(why) => Peer::Unknown(format!(
            "the client certificate must have exactly one URI SAN, spiffe://DOMAIN/bureau/ID: {why}"
        )),
    }
}

fn bureau_of(der: &[u8]) -> Result<BureauId, String> {
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
    let id = path.filter(|(domain, _)| !domain.is_empty()).and_then(|(_, path)| path.strip_prefix("bureau/"));
    id.ok_or_else(|| format!("it has {uri}"))?.parse().map_err(|e| format!("{e}"))
}
