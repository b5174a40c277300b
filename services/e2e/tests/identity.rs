//! Who is let in, and as whom: the client certificate's one URI.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_e2e::{Kind, Stack, free_port, metadata, on_both_stacks, wait_until};
use caselock_proto::v1::{
    AbandonUploadRequest, GetUploadRequest, ListCasesRequest, OpenUploadRequest, RecordingState, SealUploadRequest,
    SegmentHeader, WatchRecordingsRequest, WriteSegmentsRequest, ingest_service_client::IngestServiceClient,
    registry_service_client::RegistryServiceClient, watch_recordings_response::Content as Watched,
    write_segments_request::Content, write_segments_response::Outcome,
};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

on_both_stacks!(a_bureau_is_exactly_one_uri_of_a_certificate_under_the_ca, a_bureau_touches_only_what_is_its_own);

/// The stable reason of a refusal.
fn reason(refused: &Status) -> String {
    refused.get_error_details().error_info().unwrap().reason.clone()
}

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

/// A connection to a server with this identity.
async fn connect(stack: &Stack, server: &str, identity: Option<Identity>) -> Result<Channel, Status> {
    let ca = std::fs::read(stack.dir.path().join("ca/ca.pem")).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(server.to_owned()).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.map_err(|e| Status::unavailable(e.to_string()))
}

/// What a caller with this identity is told, by the gateway and by the registry.
async fn call(stack: &Stack, identity: Option<Identity>) -> [Result<(), Status>; 2] {
    let gateway = async {
        let channel = connect(stack, &stack.server, identity.clone()).await?;
        IngestServiceClient::new(channel).watch_recordings(WatchRecordingsRequest::default()).await.map(drop)
    };
    let registry = async {
        let channel = connect(stack, &stack.registry, identity.clone()).await?;
        RegistryServiceClient::new(channel).list_cases(ListCasesRequest::default()).await.map(drop)
    };
    [gateway.await, registry.await]
}

async fn a_bureau_is_exactly_one_uri_of_a_certificate_under_the_ca(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let registry = stack.start_registry().await;
    let bureau = "URI:spiffe://caselock.test/bureau/demo";
    let known = call(&stack, Some(certificate(&stack, Some(bureau), false))).await;
    assert!(known.iter().all(Result::is_ok), "{known:?}");
    for names in [
        None,
        Some("DNS:demo"),
        Some("URI:spiffe://caselock.test/bureau/demo,URI:spiffe://caselock.test/bureau/other"),
        Some("URI:https://caselock.test/bureau/demo"),
        Some("URI:spiffe://caselock.test/bureau/De_mo"),
    ] {
        for refused in call(&stack, Some(certificate(&stack, names, false))).await.map(Result::unwrap_err) {
            assert_eq!(
                (refused.code(), reason(&refused)),
                (Code::Unauthenticated, "IDENTITY_INVALID".into()),
                "{names:?}"
            );
        }
    }
    // An operator has nothing to upload.
    let operator = Some(certificate(&stack, Some("URI:spiffe://caselock.test/operator/demo"), false));
    assert_eq!(reason(&call(&stack, operator).await[0].clone().unwrap_err()), "IDENTITY_INVALID");
    // Not even a connection: another CA, no certificate.
    for identity in [Some(certificate(&stack, Some(bureau), true)), None] {
        for refused in call(&stack, identity).await.map(Result::unwrap_err) {
            assert!(refused.get_error_details().error_info().is_none(), "{refused}");
        }
    }
    drop(registry);
    stack.stop();
}

/// Through the same gateway, by two certificates.
async fn a_bureau_touches_only_what_is_its_own(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let client = async |bureau: &str| {
        let names = format!("URI:spiffe://caselock.test/bureau/{bureau}");
        let identity = certificate(&stack, Some(&names), false);
        IngestServiceClient::new(connect(&stack, &stack.server, Some(identity)).await.unwrap())
    };
    let (mut ours, mut theirs) = (client("demo").await, client("other").await);
    let open = OpenUploadRequest { idempotency_key: "k".into(), metadata: Some(metadata()), size: Some(3) };
    let recording = ours.open_upload(open.clone()).await.unwrap().into_inner().recording.unwrap();
    let recording_id = recording.recording_id.clone();
    let seal = SealUploadRequest {
        recording_id: recording_id.clone(),
        generation: recording.generation,
        size: 3,
        blake3: blake3::hash(b"abc").as_bytes().to_vec().into(),
    };
    let header = SegmentHeader {
        recording_id: recording_id.clone(),
        generation: recording.generation,
        index: 0,
        length: 3,
        value: vec![0; 32].into(),
    };
    let write = |content| WriteSegmentsRequest { content: Some(content) };
    let messages = [write(Content::Header(header)), write(Content::Chunk(b"abc".to_vec().into()))];
    let mut answers = theirs.write_segments(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let Some(Outcome::Refused(refused)) = answers.message().await.unwrap().unwrap().outcome else { panic!("accepted") };
    assert_eq!(refused.reason, "RECORDING_NOT_FOUND");
    let get = GetUploadRequest { recording_id: recording_id.clone() };
    let abandon = AbandonUploadRequest { recording_id: recording_id.clone() };
    for refused in [
        theirs.get_upload(get.clone()).await.unwrap_err(),
        theirs.seal_upload(seal).await.unwrap_err(),
        theirs.abandon_upload(abandon).await.unwrap_err(),
    ] {
        assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "RECORDING_NOT_FOUND".into()));
    }
    // Theirs, of the same key, is another; who watches all of theirs sees that alone.
    let other = theirs.open_upload(open).await.unwrap().into_inner().recording.unwrap();
    assert_ne!(other.recording_id, recording_id);
    let mut watch = theirs.watch_recordings(WatchRecordingsRequest::default()).await.unwrap().into_inner();
    let Some(Watched::Change(seen)) = watch.message().await.unwrap().unwrap().content else { panic!("no change") };
    let seen = seen.recording.unwrap();
    assert_eq!(seen.recording_id, other.recording_id);
    let state = ours.get_upload(get).await.unwrap().into_inner();
    assert!(state.held.is_empty() && state.recording.unwrap().state() == RecordingState::Open, "as it was");
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
