use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use caselock_domain::{receipt::KeyRing, shape::STREAMS_PER_CONNECTION};
use caselock_proto::v1::ingest_service_client::IngestServiceClient;
use tokio::{sync::Semaphore, time::sleep};
use tonic::{
    Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{UploadError, retry::Patience, send::no_server};

/// How to reach the gateways.
#[derive(Debug, Clone)]
pub struct Connect {
    /// `https://host:port` or, for trying things out on one machine, `http://127.0.0.1:port`. Several are used in turn.
    pub servers: Vec<String>,
    /// Certificates; needed for `https`.
    pub tls: Option<Tls>,
}

/// PEM texts of the bureau's identity.
#[derive(Clone)]
pub struct Tls {
    /// The CA that signed the gateway's certificate.
    pub ca: String,
    /// The bureau's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// A connection to one gateway.
pub(crate) type Ingest = IngestServiceClient<InterceptedService<Channel, Caller>>;

/// Names the span that every call is a child of.
#[derive(Clone, Default)]
pub(crate) struct Caller(Option<AsciiMetadataValue>);

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(traceparent) = &self.0 {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        Ok(request)
    }
}

/// A client of one or more gateways. Connections are made when they are needed, and made again when they break.
pub struct Client {
    channels: Vec<(String, Channel)>,
    current: AtomicUsize,
    /// Streams of segments that may be open at once.
    pub(crate) streams: Semaphore,
    pub(crate) keys: KeyRing,
    caller: Caller,
}

impl Client {
    /// Prepares the connections; nothing is sent yet. Receipts are checked against `keys`.
    pub fn new(connect: &Connect, keys: KeyRing) -> Result<Self, tonic::transport::Error> {
        let tls = connect.tls.as_ref();
        let channels = connect.servers.iter().map(|server| Ok((server.clone(), channel(server, tls)?)));
        let channels = channels.collect::<Result<_, _>>()?;
        Ok(Self {
            channels,
            current: AtomicUsize::new(0),
            streams: Semaphore::new(STREAMS_PER_CONNECTION as usize),
            keys,
            caller: Caller::default(),
        })
    }

    /// Makes what is uploaded part of its caller's trace, which this names (W3C Trace Context, `traceparent`). Otherwise each recording has a
    /// trace of its own. What can't be sent is passed over: a trace is never a reason to upload nothing.
    pub fn within(mut self, traceparent: &str) -> Self {
        self.caller = Caller(traceparent.parse().ok());
        self
    }

    /// The keys receipts are checked against.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// A client of the gateway in use. `None` without any server.
    pub(crate) fn ingest(&self) -> Option<Ingest> {
        let current = self.current.load(Ordering::Relaxed);
        let (_, channel) = self.channels.get(current % self.channels.len().max(1))?;
        let ingest = IngestServiceClient::with_interceptor(channel.clone(), self.caller.clone());
        Some(ingest.max_decoding_message_size(16 << 20))
    }

    /// The address of the gateway, where there is but one: of several, which one failed is not certain when that is told.
    pub(crate) fn server(&self) -> Option<&str> {
        match self.channels.as_slice() {
            [(server, _)] => Some(server),
            _ => None,
        }
    }

    /// Asks one gateway after the other, and all again, until one answers, as long as there is patience.
    pub(crate) async fn ask<T, F>(&self, patience: &mut Patience, call: impl Fn(Ingest) -> F) -> Result<T, UploadError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        loop {
            let error = match call(self.ingest().ok_or_else(no_server)?).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => UploadError::from(status).at(self.server()),
            };
            let delay = patience.next(error)?;
            self.turn();
            sleep(delay).await;
        }
    }

    /// Turns to the next gateway: the present one did not answer.
    pub(crate) fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn channel(server: &str, tls: Option<&Tls>) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(server.to_owned())?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(
            ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(&tls.ca))
                .identity(Identity::from_pem(&tls.certificate, &tls.key)),
        )?,
        None => endpoint,
    };
    Ok(endpoint.connect_lazy())
}
