//! TLS with client certificates, on our own acceptor: the bureau is read once a connection, and certificates can be renewed while the server
//! runs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Context;
use caselock_runtime::{
    count::gauge,
    watched::{LOOK, Watched},
};
use opentelemetry::KeyValue;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use x509_parser::{prelude::FromDer, prelude::X509Certificate};

/// PEM files of a server's identity and of the CA that signs its clients' certificates. They may be renewed while the server runs: new
/// connections have the new ones within twenty seconds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TlsConfig {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The CA of the clients' certificates, PEM; several while one follows the other.
    pub client_ca: PathBuf,
}

/// A server's certificates, as they are in its files.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    server: String,
    files: TlsConfig,
    now: RwLock<Used>,
}

/// What was read, and what was made of it.
struct Used {
    files: Option<[Vec<u8>; 3]>,
    config: Arc<ServerConfig>,
    /// When the server's own certificate ends, in seconds of Unix time.
    ends: u64,
}

impl Certificates {
    /// Reads them, for the server of this name in metrics: one that insists on a client certificate, and speaks HTTP/2 only.
    pub fn read(server: &str, files: &TlsConfig) -> anyhow::Result<Self> {
        let now = RwLock::new(Used::of(files, read(files)?)?);
        Ok(Self(Arc::new(Inner { server: server.to_owned(), files: files.clone(), now })))
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.now.read().unwrap_or_else(PoisonError::into_inner).config.clone())
    }

    /// Looks at the files again and again. What can't be used is logged, and what was used before goes on.
    pub(crate) async fn follow(self) {
        let (inner, label) = (self.0.clone(), [KeyValue::new("server", self.0.server.clone())]);
        let ends = move || inner.now.read().unwrap_or_else(PoisonError::into_inner).ends;
        gauge("caselock", "caselock_tls_certificate_not_after_seconds", move |observer| {
            observer.observe(ends(), &label)
        });
        // What was read at the start may be old: a registry waits for its turn first.
        let mut watched = Watched::new(self.0.files.all());
        let mut look = self.0.now.read().unwrap_or_else(PoisonError::into_inner).files != read(&self.0.files).ok();
        loop {
            if look {
                watched.use_now();
                match read(&self.0.files).and_then(|found| Used::of(&self.0.files, found)) {
                    Ok(used) => {
                        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = used;
                        tracing::info!(server = self.0.server, "new connections have the new certificates");
                    }
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "going on with the certificates before");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
            look = watched.have_changed();
        }
    }
}

impl TlsConfig {
    fn all(&self) -> [PathBuf; 3] {
        [self.certificate.clone(), self.key.clone(), self.client_ca.clone()]
    }
}

fn read(files: &TlsConfig) -> anyhow::Result<[Vec<u8>; 3]> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok([read(&files.certificate)?, read(&files.key)?, read(&files.client_ca)?])
}

impl Used {
    fn of(files: &TlsConfig, read: [Vec<u8>; 3]) -> anyhow::Result<Self> {
        let [chain, key, client_ca] = &read;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.client_ca, client_ca)? {
            roots.add(certificate).with_context(|| format!("use {}", files.client_ca.display()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let key = PrivateKeyDer::from_pem_slice(key).with_context(|| format!("read {}", files.key.display()))?;
        let chain = certificates(&files.certificate, chain)?;
        let own = chain.first().with_context(|| format!("read {}: no certificate", files.certificate.display()))?;
        let (_, own) =
            X509Certificate::from_der(own).with_context(|| format!("read {}", files.certificate.display()))?;
        let ends = own.validity().not_after.timestamp().try_into().unwrap_or(0);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .context("use the server's certificate and key")?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config), ends, files: Some(read) })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    read.with_context(|| format!("read {}", path.display()))
}
