use bytes::Bytes;
use caselock_log::{Entry, Record};
use rdkafka::message::{Headers, Message};

/// A consumed message as our record: copied out of librdkafka's memory once.
pub fn entry(message: &impl Message) -> Entry {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = message.headers().map(|headers| {
        let pairs = headers.iter().map(|h| (h.key.to_owned(), h.value.map(copy).unwrap_or_default()));
        pairs.collect()
    });
    Entry {
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        record: Record {
            key: message.key().map(copy).unwrap_or_default(),
            headers: headers.unwrap_or_default(),
            payload: message.payload().map(copy),
        },
    }
}
