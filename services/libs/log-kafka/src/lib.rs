//! The log on Kafka.
//!
//! Blocking calls of librdkafka run on threads of their own; one thread polls for each follower and each member.

mod certificate;
mod config;
mod error;
mod follow;
mod group;
mod log;
mod message;
mod producer;
mod renewed;
mod topics;

pub use config::KafkaConfig;
pub use log::KafkaLog;
pub use topics::{Provision, provision, replicas};
