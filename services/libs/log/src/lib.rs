//! The log: where footage is durable before anyone is told so, and where facts about recordings live.
//!
//! [`Log`] is the port. [`embedded::EmbeddedLog`] keeps it in one file; the Kafka adapter is a crate of its own. Every
//! adapter passes [`contract`].

mod dead_letters;
mod error;
mod group;
mod head;
mod record;
mod records;
mod topic;

pub mod contract;
pub mod embedded;

use std::ops::Range;

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use dead_letters::{OpenLetters, append_handled};
pub use error::LogError;
pub use group::{Assignment, Commits, Control, Delivered, Member};
pub use head::Head;
pub use record::{Entry, Followed, Record};
pub use records::{append_dead_letter, append_event, append_fact, publish, read_to_end};
pub use topic::{Cleanup, Topic};

/// A position in a partition. The first record's is 0; they only grow.
pub type Offset = u64;

/// A partitioned, durable, ordered log.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// How many partitions a topic has. Fixed for the topic's life.
    fn partitions(&self, topic: Topic) -> u32;

    /// What the topic is called where it lies. Who keeps how far it has read keeps this name with it: under another name
    /// lies another log, whose offsets have nothing to do with these.
    fn name(&self, topic: Topic) -> String;

    /// Appends a record. When this returns an offset, the record is durable: it survives the death of any process, and
    /// with Kafka of as many brokers as the topic's settings allow.
    async fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError>;

    /// The first offset that may still be read, and the one the next record will get.
    async fn bounds(&self, topic: Topic, partition: u32) -> Result<Range<Offset>, LogError>;

    /// The offset that the next record will get. As [`Log::bounds`], for half of its cost.
    async fn end(&self, topic: Topic, partition: u32) -> Result<Offset, LogError>;

    /// Follows partitions from the given offsets, without a group, until the receiver is dropped. Each partition's records
    /// come in order; [`Followed::End`] says, each time it is reached, that the end is. An offset that was deleted means
    /// the first that is there.
    async fn follow(&self, topic: Topic, from: Vec<(u32, Offset)>) -> Result<Follower, LogError>;

    /// Joins a group that shares a topic's partitions. Dropping the member leaves the group.
    async fn join(&self, group: &str, topic: Topic) -> Result<Member, LogError>;

    /// What the group's coordinator has as committed: the next offset to be worked on.
    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<Offset>, LogError>;

    /// Deletes the records before `offset`, for good. Deleting again, or less, does nothing.
    async fn delete_before(&self, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError>;

    /// Checks the settings that the two promises rest on. An error names the topic, the setting, and what it must be.
    async fn check(&self, topic: Topic) -> Result<(), LogError>;
}

/// What [`Log::follow`] gives.
pub type Follower = mpsc::Receiver<Result<Followed, LogError>>;
