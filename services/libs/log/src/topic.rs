use std::fmt;

/// The topics. Names are part of the data's format and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Segments, keyed by recording.
    Footage,
    /// Facts, keyed by the fact.
    Uploads,
    /// Work for the media service, keyed by recording.
    MediaJobs,
    /// The public events, keyed by recording or case.
    Events,
    /// What could not be done, and why.
    DeadLetters,
}

/// How a topic's old records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Only by explicit deletion, never by time or size.
    Explicit,
    /// The newest record of each key stays.
    Compact,
    /// Nothing goes.
    Never,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 5] = [Topic::Footage, Topic::Uploads, Topic::MediaJobs, Topic::Events, Topic::DeadLetters];

    /// The topic's name in Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Footage => "caselock.footage.v1",
            Topic::Uploads => "caselock.uploads.v1",
            Topic::MediaJobs => "caselock.media-jobs.v1",
            Topic::Events => "caselock.events.v1",
            Topic::DeadLetters => "caselock.dead-letters.v1",
        }
    }

    /// How its old records go.
    pub fn cleanup(self) -> Cleanup {
        match self {
            Topic::Footage | Topic::MediaJobs => Cleanup::Explicit,
            Topic::Uploads => Cleanup::Compact,
            Topic::Events | Topic::DeadLetters => Cleanup::Never,
        }
    }

    /// How many partitions it has in production.
    pub fn default_partitions(self) -> u32 {
        match self {
            Topic::Footage | Topic::Uploads | Topic::MediaJobs => 48,
            Topic::Events => 12,
            Topic::DeadLetters => 6,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
