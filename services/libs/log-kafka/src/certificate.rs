//! When our certificate for the brokers ends.

use std::path::PathBuf;

use caselock_runtime::{count::gauge, secret::Secret};
use opentelemetry::KeyValue;
use x509_parser::pem::parse_x509_pem;

use crate::KafkaConfig;

/// Has metrics tell it, as of servers' certificates, where the properties name one. The file is read whenever metrics are.
pub fn observe(config: &KafkaConfig) {
    let named = |(name, _): &(&String, _)| name.replace('_', ".") == "ssl.certificate.location";
    let Some((_, file)) = config.properties.iter().find(named) else { return };
    let Ok(file) = Secret::from(file.to_string()).read().map(PathBuf::from) else { return };
    gauge("caselock", "caselock_tls_certificate_not_after_seconds", move |observer| {
        // One that can't be read has no number; the clients say why.
        if let Some(end) = std::fs::read(&file).ok().and_then(|pem| end(&pem)) {
            observer.observe(end, &[KeyValue::new("server", "Kafka client")]);
        }
    });
}

/// In seconds of Unix time.
fn end(pem: &[u8]) -> Option<u64> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    pem.parse_x509().ok()?.validity().not_after.timestamp().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_when_it_says() {
        let pem = b"-----BEGIN CERTIFICATE-----
MIIBNDCB56ADAgECAhQBTMl1wdxosYk1uU8kFCzA3PsMYzAFBgMrZXAwDzENMAsG
A1UEAwwEdGVzdDAgFw0yNjExMzAxMDAyMTNaGA8yMTI2MTEwNjEwMDIxM1owDzEN
MAsGA1UEAwwEdGVzdDAqMAUGAytlcAMhABLDuTWZZTFfltbjx32FP/8/J5tWMkr5
WUk7gMAqsGoYo1MwUTAdBgNVHQ4EFgQU8eVD2YPWpu2KmHi/LcWEqS7u9gswHwYD
VR0jBBgwFoAU8eVD2YPWpu2KmHi/LcWEqS7u9gswDwYDVR0TAQH/BAUwAwEB/zAF
BgMrZXADQQDNq5UyciRGK8JrKjSv+IpDqiIrV5ZfquD+FVbPRIGfyL5S5LNbVkTx
WjyYQAf/4NhBP6c8HmnNGay92Q3zrjYM
-----END CERTIFICATE-----
";
        assert_eq!(end(pem), Some(4_949_632_933));
        assert_eq!(end(b"none"), None);
    }
}
