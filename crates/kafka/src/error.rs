//! librdkafka's errors in the words of the seam.
//!
//! Owns: which kind an error is. Does not know: what is done about it.
//! Invariant: what waiting can heal is transient; what needs a person or a restart is not.

use headwater_core::log::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// An error while doing something, such as `append to topic readings`.
pub(crate) fn of(doing: &str, error: &KafkaError) -> LogError {
    let words = format!("{doing}: {error}");
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => LogError::Busy(words),
        Some(Code::Fatal | Code::FencedInstanceId) => LogError::Stopped(words),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord) => {
            LogError::Corrupt(format!("{words}; look at the topic's max.message.bytes"))
        }
        _ => LogError::Unavailable(words),
    }
}

/// Whether an error says that the topic, or what was known of it, is not there.
pub(crate) const fn is_about_the_topic(code: Code) -> bool {
    matches!(
        code,
        Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
    )
}

/// Whether an error says that this process can never be a member of its group as it is configured.
pub(crate) const fn is_about_membership(code: Code) -> bool {
    matches!(code, Code::InvalidSessionTimeout | Code::InvalidGroupId)
}

/// Whether an error says that the cluster does not let this user do it. An administrator may change that at any time.
pub(crate) const fn is_about_rights(code: Code) -> bool {
    matches!(code, Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed)
}

/// Whether an error says that a partition has no leader at the moment, or another than was known.
pub(crate) const fn is_about_the_leader(code: Code) -> bool {
    matches!(
        code,
        Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ReplicaNotAvailable
    )
}
