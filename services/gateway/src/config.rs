use std::net::SocketAddr;

use anyhow::ensure;
use caselock_domain::shape::LARGE_SEGMENT;
use caselock_front::{Door, TlsConfig};
use serde::{Deserialize, Serialize};

/// The gateway's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayConfig {
    /// Address and port of the gRPC front door.
    pub listen: SocketAddr,
    /// Certificates. Without them the gateway refuses to start unless `plaintext_bureau` is set.
    pub tls: Option<TlsConfig>,
    /// Serves without TLS, every client being this bureau. Only on a loopback address; for trying things out.
    pub plaintext_bureau: Option<String>,
    /// Bytes of segments in memory at once, over all streams.
    pub memory_budget: u64,
    /// The share of the memory budget one bureau may have, in percent.
    pub bureau_share_percent: u8,
    /// Bytes that may wait in the log for the archiver; beyond it segments are refused.
    pub backlog_cap: u64,
    /// Uploads one bureau may have open.
    pub open_uploads_per_bureau: u64,
    /// Connections at once.
    pub connections: u32,
    /// Seconds after which a stream of segments is ended, so that the client opens the next, perhaps elsewhere.
    pub stream_life_seconds: u64,
    /// Seconds a stream may take for each MiB of a segment.
    pub chunk_timeout_seconds: u64,
    /// Whether gRPC reflection answers.
    pub reflection: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7443)),
            tls: None,
            plaintext_bureau: None,
            memory_budget: 256 << 20,
            bureau_share_percent: 60,
            backlog_cap: 64 << 30,
            open_uploads_per_bureau: 20_000,
            connections: 1_000,
            stream_life_seconds: 300,
            chunk_timeout_seconds: 120,
            reflection: false,
        }
    }
}

impl GatewayConfig {
    /// Checks that the values fit together, and that the certificates can be used.
    pub fn check(&self) -> anyhow::Result<()> {
        let least = u64::from(LARGE_SEGMENT);
        ensure!(self.memory_budget >= least, "gateway.memory_budget: expected at least {least}, one segment");
        ensure!(
            (1..=100).contains(&self.bureau_share_percent),
            "gateway.bureau_share_percent: expected 1 to 100, not {}",
            self.bureau_share_percent
        );
        let seconds = [
            ("stream_life_seconds", self.stream_life_seconds),
            ("chunk_timeout_seconds", self.chunk_timeout_seconds),
            ("connections", self.connections.into()),
            ("open_uploads_per_bureau", self.open_uploads_per_bureau),
        ];
        for (name, value) in seconds {
            ensure!(value > 0, "gateway.{name}: expected at least 1");
        }
        self.door().map(drop)
    }

    /// How connections come in.
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        Door::new("gateway", self.listen, self.tls.as_ref(), self.plaintext_bureau.as_deref())
    }
}
