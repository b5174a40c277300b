//! The resumable client: brings one file to its receipt, over links that break, through gateways that come and go.
//!
//! [`Client::upload`] keeps no state of its own: what is held is asked of the gateway, so it may be killed anywhere and run
//! again, on another day and against another gateway.

mod announce;
mod connect;
mod error;
mod file;
mod registry;
mod retry;
mod send;
mod throttle;
mod upload;

pub use connect::{Client, Connect, Tls};
pub use error::UploadError;
pub use file::{Footage, Stamp, content_key, name_key};
pub use registry::registry;
pub use throttle::Throttle;
pub use upload::{Progress, Report, Upload, Uploaded};
