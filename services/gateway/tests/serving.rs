//! Health and reflection, as stock tools ask for them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use caselock_gateway::{Gateway, GatewayConfig, GatewayContext};
use caselock_log::embedded::EmbeddedLog;
use caselock_runtime::health::Health;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const SERVICE: &str = "caselock.v1.IngestService";

async fn gateway(reflection: bool, health: Health) -> (Gateway, Channel, TempDir) {
    let dir = TempDir::new().unwrap();
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        plaintext_bureau: Some("demo".into()),
        reflection,
        ..GatewayConfig::default()
    };
    let context = GatewayContext {
        log: EmbeddedLog::open(&dir.path().join("log")).unwrap(),
        clock: caselock_runtime::clock::system_clock(),
        nonce: || [7; 16],
        health,
        stop: CancellationToken::new(),
    };
    let gateway = caselock_gateway::start(config, context).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", gateway.address)).unwrap().connect().await.unwrap();
    (gateway, channel, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_readiness() {
    let health = Health::default();
    let (_gateway, channel, _dir) = gateway(false, health.clone()).await;
    let mut client = HealthClient::new(channel);
    for service in [SERVICE, ""] {
        health.expect("a test");
        let mut changes = client.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        let mut until = async |wanted: ServingStatus| {
            let wait = async { while changes.message().await.unwrap().unwrap().status() != wanted {} };
            tokio::time::timeout(Duration::from_secs(180), wait).await.expect("the status follows");
        };
        until(ServingStatus::NotServing).await;
        health.started();
        health.up("a test");
        until(ServingStatus::Serving).await;
        health.down("a test", "not well");
        until(ServingStatus::NotServing).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_answers_only_where_it_was_asked_for() {
    for wanted in [true, false] {
        let (_gateway, channel, _dir) = gateway(wanted, Health::default()).await;
        let request = MessageRequest::FileContainingSymbol(SERVICE.into());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let asked = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::iter([request])).await;
        if !wanted {
            assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
            continue;
        }
        let answer = asked.unwrap().into_inner().message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
        assert!(!files.file_descriptor_proto.is_empty());
    }
}
