use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use caselock_domain::shape::{LARGE_SEGMENT, MAX_CHUNK, STREAMS_PER_CONNECTION};
use caselock_front::{Door, TlsConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The HTTP/2 window of a stream.
pub(crate) const STREAM_WINDOW: u32 = 680 << 10;
/// That of a connection: what its peer may send beyond what was read. So many streams that are not read, since their segments wait
/// for memory, do not fill it: calls come through. A client that opens more on one connection may stop itself until they are refused.
pub(crate) const CONNECTION_WINDOW: u32 = STREAMS_PER_CONNECTION * STREAM_WINDOW + (64 << 10);
/// The largest message the gateway takes: a chunk and its frame.
pub(crate) const MESSAGE: usize = MAX_CHUNK + (64 << 10);
/// A stream's message as it comes, and what follows it in the last frame read.
const MESSAGE_IN_HAND: u64 = MESSAGE as u64 + FRAME as u64;
/// Calls at once that have no answer yet, each with its message; others wait unread.
pub(crate) const CALLS: usize = 64;
/// Bytes that watches may hold: ids, and answers that are not read.
pub(crate) const WATCHES: u64 = 32 << 20;
/// How long answers may wait for a client that does not read them.
pub(crate) const UNREAD: Duration = Duration::from_secs(60);
/// The largest HTTP/2 frame.
pub(crate) const FRAME: u32 = 128 << 10;

/// The gateway's settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatewayConfig {
    /// Address and port of the gRPC front door.
    pub listen: SocketAddr,
    /// Certificates of the server, and the CA of the bureaus'. Without them the gateway refuses to start unless `plaintext_bureau` is
    /// set.
    pub tls: Option<TlsConfig>,
    /// Instead of TLS: every client is this bureau. On a loopback address only; for trying things out.
    pub plaintext_bureau: Option<String>,
    /// Bytes that peers can make the gateway hold: 2.1 MiB for each of `connections`, 1.2 MiB for each of `streams` and of 64 calls,
    /// 32 MiB for watches, and what remains, at least 16 MiB, for segments. The process needs about 150 MiB beside it, and twice the
    /// size of the segments that are being handed to Kafka at one moment. In one process, the log keeps up to 64 MiB of the newest
    /// footage beside it.
    pub memory_budget: u64,
    /// The share of segments' memory, streams, connections and the backlog cap that one bureau may have, in percent.
    pub bureau_share_percent: u8,
    /// Bytes in the log that are not in the store yet; beyond it segments are refused (`BACKLOG_FULL`).
    pub backlog_cap: u64,
    /// Uploads one bureau may have open.
    pub open_uploads_per_bureau: u64,
    /// Recordings one bureau may have announced and not opened.
    pub announced_per_bureau: u64,
    /// Connections at once. More wait; one beyond a bureau's share is closed.
    pub connections: u32,
    /// Streams of segments at once, over all connections. More wait for 5 seconds and are then refused (`MEMORY_BUDGET`).
    pub streams: u32,
    /// Seconds after which a stream of segments is ended, so that the client opens the next, perhaps at another gateway.
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
            memory_budget: 768 << 20,
            bureau_share_percent: 60,
            backlog_cap: 64 << 30,
            open_uploads_per_bureau: 20_000,
            announced_per_bureau: 100_000,
            connections: 128,
            streams: 192,
            stream_life_seconds: 300,
            chunk_timeout_seconds: 120,
            reflection: false,
        }
    }
}

impl GatewayConfig {
    /// Checks that the values fit together, and that the certificates can be used.
    pub fn check(&self) -> anyhow::Result<()> {
        let least = self.set_aside() + u64::from(LARGE_SEGMENT);
        ensure!(
            self.memory_budget >= least,
            "gateway.memory_budget: expected at least {least}: one segment beside what {} connections, {} streams, 64 calls and watches \
             may fill",
            self.connections,
            self.streams
        );
        ensure!(
            (1..=100).contains(&self.bureau_share_percent),
            "gateway.bureau_share_percent: expected 1 to 100, not {}",
            self.bureau_share_percent
        );
        let seconds = [
            ("stream_life_seconds", self.stream_life_seconds),
            ("chunk_timeout_seconds", self.chunk_timeout_seconds),
            ("connections", self.connections.into()),
            ("streams", self.streams.into()),
            ("open_uploads_per_bureau", self.open_uploads_per_bureau),
            ("announced_per_bureau", self.announced_per_bureau),
        ];
        for (name, value) in seconds {
            ensure!(value > 0, "gateway.{name}: expected at least 1");
        }
        self.door().map(drop)
    }

    /// Bytes of the budget that are not for segments: what peers may send before anything of it is admitted.
    pub(crate) fn set_aside(&self) -> u64 {
        let windows = u64::from(CONNECTION_WINDOW) * u64::from(self.connections);
        windows + MESSAGE_IN_HAND * (u64::from(self.streams) + CALLS as u64) + WATCHES
    }

    /// How connections come in.
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        Door::new("gateway", self.listen, self.tls.as_ref(), self.plaintext_bureau.as_deref())
    }
}
