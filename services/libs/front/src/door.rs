//! Connections: accepted, shaken hands with, and known by name, before anything is read from them.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use caselock_domain::id::BureauId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    budget::{Budget, Granted},
    caller::{self, Caller, Peer},
    tls::{Certificates, TlsConfig},
};

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How connections come in.
#[derive(Clone)]
pub enum Door {
    /// Mutual TLS: the client's certificate says who it is.
    Tls(Certificates),
    /// No TLS: whoever comes is this bureau, and may act for it as an operator may.
    Plaintext(BureauId),
}

impl Door {
    /// The door that the settings of a section ask for; an error where they contradict each other or their certificates
    /// can't be used.
    pub fn new(
        section: &str,
        listen: SocketAddr,
        tls: Option<&TlsConfig>,
        plaintext_bureau: Option<&str>,
    ) -> anyhow::Result<Self> {
        match (tls, plaintext_bureau) {
            (Some(tls), None) => Ok(Self::Tls(Certificates::read(section, tls)?)),
            (None, Some(bureau)) if listen.ip().is_loopback() => {
                Ok(Self::Plaintext(bureau.parse().with_context(|| format!("{section}.plaintext_bureau"))?))
            }
            (None, Some(_)) => {
                bail!("{section}.plaintext_bureau works on a loopback address only: set {section}.tls")
            }
            (Some(_), Some(_)) => bail!("{section}.tls and {section}.plaintext_bureau exclude each other"),
            (None, None) => bail!("{section}.tls is needed (certificate, key, client_ca)"),
        }
    }

    async fn open(self, stream: TcpStream, room: &Budget, granted: Granted) -> std::io::Result<Connection> {
        stream.set_nodelay(true)?;
        let (io, peer) = match self {
            Self::Plaintext(bureau) => (Io::Plain(stream), Peer::Known(Caller::plaintext(bureau))),
            Self::Tls(certificates) => {
                let stream = timeout(HANDSHAKE, certificates.acceptor().accept(stream)).await??;
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let none = Peer::Unknown("a client certificate is needed".into());
                let peer = certificate.map_or(none, |certificate| caller::of_certificate(certificate));
                (Io::Tls(Box::new(stream)), peer)
            }
        };
        let granted = match &peer {
            Peer::Known(Caller { bureau: Some(bureau), .. }) => room
                .count(granted, bureau)
                .ok_or_else(|| std::io::Error::other(format!("{bureau} has as many connections as it may")))?,
            _ => granted,
        };
        Ok(Connection { io, peer, _granted: granted })
    }
}

/// Accepts connections until `stop`, as many at once as there is `room` for; each shakes hands in a task of its own. One more
/// than its bureau's share is closed.
pub fn accept(
    listener: TcpListener,
    door: Door,
    room: Budget,
    stop: CancellationToken,
) -> ReceiverStream<std::io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    let room = Arc::new(room);
    if let Door::Tls(certificates) = &door {
        tokio::spawn(stop.clone().run_until_cancelled_owned(certificates.clone().follow()));
    }
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let granted = room.take_for_anyone().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, most likely: it passes.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (door, room, sender) = (door.clone(), room.clone(), sender.clone());
            tokio::spawn(async move {
                match door.open(stream, &room, granted).await {
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
pub struct Connection {
    io: Io,
    peer: Peer,
    _granted: Granted,
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
