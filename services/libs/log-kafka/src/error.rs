use caselock_log::{LogError, Topic};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// A Kafka error in our terms.
pub fn convert(topic: Topic, partition: u32, error: &KafkaError) -> LogError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => LogError::TooLarge(error.to_string()),
        Some(
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::RebalanceInProgress,
        ) => LogError::Fenced { topic, partition },
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            LogError::Misconfigured { topic, problem: format!("{error}: it must be there") }
        }
        _ => LogError::Unavailable(error.to_string()),
    }
}

/// Whether a consumer that reports this goes on by itself.
pub fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    !matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Fatal
                | Code::Authentication
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::PollExceeded
                | Code::FencedInstanceId
        )
    )
}
