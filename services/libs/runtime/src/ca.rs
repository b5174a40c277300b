//! Files with the CAs of servers that we ask.

use std::path::Path;

use anyhow::{Context, ensure};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The PEM in `file`, which is at least one certificate that can be believed, and nothing that can't. Errors name the setting.
pub fn read(setting: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = std::fs::read(file).with_context(|| format!("read {setting} {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| format!("{setting} {}", file.display()))?;
        roots.add(certificate).with_context(|| format!("{setting} {}", file.display()))?;
    }
    ensure!(!roots.is_empty(), "{setting} {}: expected certificates in PEM", file.display());
    Ok(pem)
}
