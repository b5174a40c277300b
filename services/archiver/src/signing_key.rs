//! The key that receipts are signed with, followed while its file changes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use caselock_domain::receipt::ReceiptSigner;
use caselock_runtime::watched::Watched;

/// A key in a file. Receipts under the one before stay what they are: each has its key's id, and the manifest's counts.
pub struct SigningKey {
    file: PathBuf,
    current: Mutex<(Arc<ReceiptSigner>, Watched)>,
}

impl SigningKey {
    /// As it is now: PKCS#8 PEM, Ed25519.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let watched = Watched::new([file.to_owned()]);
        Ok(Self { file: file.to_owned(), current: Mutex::new((Arc::new(read(file)?), watched)) })
    }

    /// The one to sign with now: what is in the file, as soon as who writes it is done; what cannot be used is logged, and
    /// the one before goes on.
    pub fn get(&self) -> Arc<ReceiptSigner> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.have_changed() {
            self.follow(&mut current.0);
            current.1.use_now();
        }
        current.0.clone()
    }

    fn follow(&self, signer: &mut Arc<ReceiptSigner>) {
        match read(&self.file) {
            Ok(new) => {
                tracing::info!(key_id = new.key_id(), "receipts are signed with another key from now on");
                *signer = Arc::new(new);
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "going on with the signing key before"),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<ReceiptSigner> {
    let pem = std::fs::read_to_string(file).with_context(|| format!("read archiver.signing_key {}", file.display()))?;
    ReceiptSigner::from_pem(&pem).context("archiver.signing_key")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use super::*;

    /// Of RFC 8410, and another.
    const KEYS: [&str; 2] = [
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n",
    ];

    #[test]
    fn another_key_is_taken_and_what_is_none_is_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("key.pem");
        fs::write(&file, "none").unwrap();
        assert!(SigningKey::open(&file).is_err());
        fs::write(&file, KEYS[0]).unwrap();
        let key = SigningKey::open(&file).unwrap();
        let [first, second] = KEYS.map(|pem| ReceiptSigner::from_pem(pem).unwrap().key_id().to_owned());
        assert!(first != second && key.get().key_id() == first);
        fs::write(&file, "none").unwrap();
        key.follow(&mut key.current.lock().unwrap().0);
        assert_eq!(key.get().key_id(), first);
        fs::write(&file, KEYS[1]).unwrap();
        // At the next look, or the one after.
        let began = Instant::now();
        while key.get().key_id() != second {
            assert!(began.elapsed() < Duration::from_secs(60), "never taken");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
