//! Who is let in, and as whom: the client certificate's one URI.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_e2e::{Kind, Stack, free_port, wait_until};
use caselock_proto::v1::{WatchRecordingsRequest, ingest_service_client::IngestServiceClient};
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

/// A certificate under the stack's CA, or under one of its own, with these subject alternative names.
fn certificate(stack: &Stack, names: Option<&str>, own_ca: bool) -> Identity {
    let ca = stack.dir.path().join("ca");
    let temp = tempfile::TempDir::new().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(&[&["genpkey"], &curve[..], &["-out", &at("key")]].concat());
    openssl(&["req", "-new", "-subj", "/CN=test", "-key", &at("key"), "-out", &at("csr")]);
    let names = names.map(|names| format!("subjectAltName={names}\n")).unwrap_or_default();
    std::fs::write(at("ext"), format!("basicConstraints=CA:FALSE\n{names}")).unwrap();
    let (ca_pem, ca_key) = if own_ca {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=other",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ]);
        (at("ca.pem"), at("ca.key"))
    } else {
        (ca.join("ca.pem").display().to_string(), ca.join("ca.key").display().to_string())
    };
    openssl(&[
        "x509",
        "-req",
        "-in",
        &at("csr"),
        "-days",
        "1",
        "-CA",
        &ca_pem,
        "-CAkey",
        &ca_key,
        "-extfile",
        &at("ext"),
        "-out",
        &at("pem"),
    ]);
    Identity::from_pem(std::fs::read(at("pem")).unwrap(), std::fs::read(at("key")).unwrap())
}

/// What a caller with this identity is told.
async fn call(stack: &Stack, identity: Option<Identity>) -> Result<(), Status> {
    let ca = std::fs::read(stack.dir.path().join("ca/ca.pem")).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(stack.server.clone()).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|e| Status::unavailable(e.to_string()))?;
    IngestServiceClient::new(channel).watch_recordings(WatchRecordingsRequest::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bureau_is_exactly_one_uri_of_a_certificate_under_the_ca() {
    let mut stack = Stack::start(Kind::Embedded, &[]).await;
    let bureau = "URI:spiffe://caselock.test/bureau/demo";
    call(&stack, Some(certificate(&stack, Some(bureau), false))).await.unwrap();
    for names in [
        None,
        Some("DNS:demo"),
        Some("URI:spiffe://caselock.test/bureau/demo,URI:spiffe://caselock.test/bureau/other"),
        Some("URI:spiffe://caselock.test/operator/demo"),
        Some("URI:https://caselock.test/bureau/demo"),
        Some("URI:spiffe://caselock.test/bureau/De_mo"),
    ] {
        let refused = call(&stack, Some(certificate(&stack, names, false))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{names:?}: {refused}");
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "IDENTITY_INVALID", "{names:?}");
    }
    // Not even a connection: another CA, no certificate.
    for identity in [Some(certificate(&stack, Some(bureau), true)), None] {
        let refused = call(&stack, identity).await.unwrap_err();
        assert!(refused.get_error_details().error_info().is_none(), "{refused}");
    }
    stack.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_is_for_loopback_only() {
    let stack = Stack::prepare(Kind::Distributed, &[]).await;
    let settings =
        [("gateway.plaintext_bureau", "demo".to_owned()), ("gateway.listen", format!("0.0.0.0:{}", free_port()))];
    let mut program = stack.spawn_without("gateway.tls", "gateway", free_port(), &settings);
    wait_until("its end", || program.ended().is_some());
    assert_ne!(program.ended(), Some(0));
    assert!(program.log().contains("loopback address only"), "{}", program.log());
}
