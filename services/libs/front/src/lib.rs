//! What stands in front of every gRPC service: TLS with client certificates on our own acceptor, who is calling, refusals with
//! stable reasons, health and reflection.

mod budget;
mod caller;
mod door;
mod reasons;
mod refusal;
mod tls;

pub mod health;

pub use budget::{Budget, Granted};
pub use caller::{Caller, Peer};
pub use door::{Connection, Door, accept};
pub use reasons::{Reasons, code_name, reason};
pub use refusal::Refusal;
pub use tls::TlsConfig;
