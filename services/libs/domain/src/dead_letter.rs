//! What a dead letter says of the record it stands for: where that lay and why nothing could be done with it; of footage never its bytes.

/// The header that has a media job's own payload, so that the job can be given back.
pub const RECORD: &str = "cl-record";

/// The headers that are added to those of the record. `reason` is a stable reason; the detail is the dead letter's payload.
pub fn headers(topic: &str, partition: u32, offset: u64, reason: &str) -> [(&'static str, String); 4] {
    [
        ("cl-reason", reason.to_owned()),
        ("cl-topic", topic.to_owned()),
        ("cl-partition", partition.to_string()),
        ("cl-offset", offset.to_string()),
    ]
}
