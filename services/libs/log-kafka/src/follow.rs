//! Reading without a group: one thread, one consumer with assigned partitions.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use caselock_log::{Followed, LogError, Offset, Topic};
use caselock_runtime::watched::Watched;
use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list,
};
use tokio::sync::mpsc;

use crate::{
    KafkaConfig,
    error::{convert, is_passing},
    log,
    message::entry,
    renewed::files,
};

const POLL: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(5);
/// How long a partition is quiet at its end before it is asked whether the end lies further on.
const QUIET: Duration = Duration::from_millis(200);

type Sender = mpsc::Sender<Result<Followed, LogError>>;

/// Starts to follow.
pub fn start(config: &KafkaConfig, topic: Topic, from: &[(u32, Offset)], sender: Sender) -> Result<(), KafkaError> {
    let files = files(config);
    let places: HashMap<_, _> =
        from.iter().map(|(p, offset)| (*p, Place { position: *offset, quiet_since: None })).collect();
    let consumer = consumer(config, topic, &places)?;
    let (config, name) = (config.clone(), config.topic(topic));
    let follow = Follow { config, files, consumer, topic, name, places, sender };
    std::thread::Builder::new()
        .name("log-follow".into())
        .spawn(move || follow.run())
        .map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
    Ok(())
}

/// One that reads on from these places.
fn consumer(config: &KafkaConfig, topic: Topic, places: &HashMap<u32, Place>) -> KafkaResult<BaseConsumer<Quiet>> {
    let consumer: BaseConsumer<Quiet> = config
        .consumer()?
        // Never committed to, but librdkafka wants a name.
        .set("group.id", config.group("caselock-follower"))
        .set("enable.partition.eof", "true")
        .create_with_context(Quiet)?;
    let name = config.topic(topic);
    let mut partitions = TopicPartitionList::new();
    for (partition, place) in places {
        let offset = topic_partition_list::Offset::Offset(place.position as i64);
        partitions.add_partition_offset(&name, *partition as i32, offset)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// librdkafka calls the end of a partition an error, and logs it as one.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            // Under the name that repetitions are left out by (caselock_runtime, quiet).
            tracing::warn!(target: "rdkafka", "librdkafka: {error}: {reason}");
        }
    }
}

impl ConsumerContext for Quiet {}

struct Follow {
    config: KafkaConfig,
    files: Watched,
    consumer: BaseConsumer<Quiet>,
    topic: Topic,
    name: String,
    places: HashMap<u32, Place>,
    sender: Sender,
}

struct Place {
    /// One past the last record that was passed on.
    position: Offset,
    /// Since when nothing came after the end was reached; `None` while records come, or once the end is certain.
    quiet_since: Option<Instant>,
}

impl Follow {
    fn run(mut self) {
        while !self.sender.is_closed() {
            if self.files.have_changed() {
                self.renew();
            }
            let told = match self.consumer.poll(POLL) {
                None => Ok(()),
                Some(Ok(message)) => {
                    let entry = entry(&message);
                    drop(message);
                    self.tell_entry(entry)
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.end(partition as u32),
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, topic = %self.topic, "following goes on after an error");
                    Ok(())
                }
                Some(Err(error)) => {
                    let _ = self.sender.blocking_send(Err(convert(self.topic, 0, &error)));
                    return;
                }
            };
            if told.and_then(|()| self.look_past_ends()).is_err() {
                return;
            }
        }
    }

    /// Reads on with a consumer that has the files as they are now; with the one before, if that one can't reach the brokers.
    fn renew(&mut self) {
        let made = consumer(&self.config, self.topic, &self.places)
            .and_then(|made| made.fetch_metadata(Some(&self.name), ASK).map(|_| made));
        match made {
            Ok(made) => {
                tracing::info!(topic = %self.topic, "files of kafka.properties have changed: reading on with them");
                self.consumer = made;
            }
            Err(error) => tracing::error!(%error, "files of kafka.properties have changed, and can't be used"),
        }
        self.files.use_now();
    }

    fn tell_entry(&mut self, entry: caselock_log::Entry) -> Result<(), ()> {
        if let Some(place) = self.places.get_mut(&entry.partition) {
            *place = Place { position: entry.offset + 1, quiet_since: None };
        }
        self.tell(Followed::Entry(entry))
    }

    fn end(&mut self, partition: u32) -> Result<(), ()> {
        let Some(place) = self.places.get_mut(&partition) else { return Ok(()) };
        place.quiet_since = Some(Instant::now());
        let position = place.position;
        self.tell(Followed::End { partition, position })
    }

    /// Compaction and deletion leave holes at a log's tail, and our position before them, since librdkafka does not tell
    /// where an end is. So the end is asked, and the partition read again from our position: if the first thing that comes
    /// is the end, nothing lies between, and the end that was asked is reached.
    fn look_past_ends(&mut self) -> Result<(), ()> {
        let is_quiet = |place: &Place| place.quiet_since.is_some_and(|since| since.elapsed() > QUIET);
        let quiet: Vec<u32> = self.places.iter().filter(|(_, place)| is_quiet(place)).map(|(p, _)| *p).collect();
        for partition in quiet {
            let Ok(end) = log::end(&self.consumer, &self.name, partition, ASK) else { continue };
            let Some(place) = self.places.get_mut(&partition) else { continue };
            place.quiet_since = None;
            let position = place.position;
            if position >= end {
                continue;
            }
            let from = topic_partition_list::Offset::Offset(position as i64);
            if let Err(error) = self.consumer.seek(&self.name, partition as i32, from, ASK) {
                tracing::warn!(%error, topic = %self.topic, partition, "can't look past a hole");
                continue;
            }
            self.until_first(partition, end)?;
        }
        Ok(())
    }

    /// Passes on what comes until the partition's first event after a seek.
    fn until_first(&mut self, partition: u32, end: Offset) -> Result<(), ()> {
        let give_up = Instant::now() + ASK;
        while Instant::now() < give_up && !self.sender.is_closed() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let entry = entry(&message);
                    drop(message);
                    let own = entry.partition == partition;
                    self.tell_entry(entry)?;
                    if own {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(p))) if p as u32 == partition => {
                    if let Some(place) = self.places.get_mut(&partition) {
                        place.position = place.position.max(end);
                    }
                    return self.end(partition);
                }
                Some(Err(KafkaError::PartitionEOF(p))) => self.end(p as u32)?,
                _ => {}
            }
        }
        // Not answered: asked again when it is quiet again.
        if let Some(place) = self.places.get_mut(&partition) {
            place.quiet_since = Some(Instant::now());
        }
        Ok(())
    }

    fn tell(&self, followed: Followed) -> Result<(), ()> {
        self.sender.blocking_send(Ok(followed)).map_err(|_| ())
    }
}
