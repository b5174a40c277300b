//! The server: connections, TLS, the services, and the orderly end.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use caselock_domain::{fact::Nonce, id::BureauId, shape::MAX_CHUNK, time::Clock};
use caselock_log::{Log, Topic};
use caselock_proto::v1::ingest_service_server::IngestServiceServer;
use caselock_runtime::health::Health;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};
use tonic_health::ServingStatus;

use crate::{
    admission::Admission,
    config::GatewayConfig,
    identity::{self, Peer},
    ingest::{Ingest, IngestServer},
    metrics::GatewayMetrics,
    tls,
    view::View,
};

/// How long connections may take to end once the gateway drains: longer than any segment may take then.
const DRAIN: Duration = Duration::from_secs(45);
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/2 windows. They are memory a peer can fill before the byte budget admits it, so they are small.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What a gateway is built on.
pub struct GatewayContext {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The clock.
    pub clock: Clock,
    /// Draws 16 random bytes.
    pub nonce: fn() -> Nonce,
    /// Told when the gateway is ready, and when not any more.
    pub health: Health,
    /// Cancelled to make it drain.
    pub stop: CancellationToken,
}

/// A gateway that is serving.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Gateway {
    /// Waits until it has stopped: after the token was cancelled and the open streams have ended.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.task.await.context("join the gateway")?.context("serve")
    }
}

/// Checks the topics' settings, then serves until `context.stop`.
pub async fn start(config: GatewayConfig, context: GatewayContext) -> anyhow::Result<Gateway> {
    let GatewayContext { log, clock, nonce, health, stop } = context;
    let door = Door::new(&config)?;
    for topic in [Topic::Footage, Topic::Uploads] {
        log.check(topic).await.with_context(|| format!("check {topic}"))?;
    }
    if log.partitions(Topic::Footage) != log.partitions(Topic::Uploads) {
        bail!("footage and uploads have different partition counts: they must agree");
    }
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    // The view lives on while the open streams and calls end.
    let view_stop = CancellationToken::new();
    let view = View::start(log.clone(), health.clone(), view_stop.clone());
    let ingest = Arc::new(Ingest {
        admission: Admission::new(config.memory_budget, config.bureau_share_percent),
        metrics: GatewayMetrics::new(),
        drain: stop.clone(),
        config: config.clone(),
        log,
        view,
        clock,
        nonce,
    });
    let (reporter, health_service) = tonic_health::server::health_reporter();
    tokio::spawn(report_health(reporter, health.clone(), stop.clone()));
    let reflection = config.reflection.then(|| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(caselock_proto::FILE_DESCRIPTOR_SET)
            .build_v1()
    });
    let service = IngestServiceServer::new(IngestServer(ingest)).max_decoding_message_size(MAX_CHUNK + (64 << 10));
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(Some(MAX_CHUNK as u32 - 1))
        .max_concurrent_streams(Some(256))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .add_service(health_service)
        .add_optional_service(reflection.transpose().context("prepare reflection")?);
    let incoming = accept(listener, door, config.connections, stop.clone());
    let served = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let task = tokio::spawn(async move {
        let _view = view_stop.drop_guard();
        tokio::select! {
            served = served => served,
            // Whoever holds a connection open longer is cut off.
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    });
    Ok(Gateway { address, task })
}

/// gRPC health follows readiness.
async fn report_health(reporter: tonic_health::server::HealthReporter, health: Health, stop: CancellationToken) {
    loop {
        let ready = health.problems().is_empty() && !stop.is_cancelled();
        // The whole server, which has no name: what most probes ask for.
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        if ready {
            reporter.set_serving::<IngestServiceServer<IngestServer>>().await;
        } else {
            reporter.set_not_serving::<IngestServiceServer<IngestServer>>().await;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled(), if ready => {}
        }
        if stop.is_cancelled() && !ready {
            return;
        }
    }
}

/// How connections come in.
#[derive(Clone)]
pub enum Door {
    Tls(TlsAcceptor),
    Plaintext(BureauId),
}

impl Door {
    /// The door that the settings ask for; an error where they contradict each other or their certificates can't be used.
    pub fn new(config: &GatewayConfig) -> anyhow::Result<Self> {
        match (&config.tls, &config.plaintext_bureau) {
            (Some(tls), None) => Ok(Self::Tls(TlsAcceptor::from(tls::server_config(tls)?))),
            (None, Some(bureau)) if config.listen.ip().is_loopback() => {
                Ok(Self::Plaintext(bureau.parse().context("gateway.plaintext_bureau")?))
            }
            (None, Some(_)) => bail!("gateway.plaintext_bureau works on a loopback address only: set gateway.tls"),
            (Some(_), Some(_)) => bail!("gateway.tls and gateway.plaintext_bureau exclude each other"),
            (None, None) => bail!("gateway.tls is needed (certificate, key, client_ca)"),
        }
    }

    async fn open(self, stream: TcpStream, permit: OwnedSemaphorePermit) -> std::io::Result<Connection> {
        stream.set_nodelay(true)?;
        let (io, peer) = match self {
            Self::Plaintext(bureau) => (Io::Plain(stream), Peer::Bureau(bureau)),
            Self::Tls(acceptor) => {
                let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let none = Peer::Unknown("a client certificate is needed".into());
                let peer = certificate.map_or(none, |certificate| identity::of_certificate(certificate));
                (Io::Tls(Box::new(stream)), peer)
            }
        };
        Ok(Connection { io, peer, _permit: permit })
    }
}

/// Accepts connections, at most `most` at once; each shakes hands in a task of its own.
fn accept(
    listener: TcpListener,
    door: Door,
    most: u32,
    stop: CancellationToken,
) -> ReceiverStream<std::io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    let room = Arc::new(Semaphore::new(most as usize));
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, most likely: it passes.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (door, sender) = (door.clone(), sender.clone());
            tokio::spawn(async move {
                match door.open(stream, permit).await {
                    // The server may have stopped meanwhile.
                    Ok(connection) => drop(sender.send(Ok(connection)).await),
                    Err(error) => tracing::info!(%error, "a connection was not let in"),
                }
            });
        }
    }));
    ReceiverStream::new(receiver)
}

/// A connection whose peer is known.
struct Connection {
    io: Io,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
