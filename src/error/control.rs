//! Why a running consumer does not do what its handle asks for.

use crate::error::ConsumeError;
use crate::types::TopicPartition;

/// Why a running consumer could not be paused, resumed or moved. It goes on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The partition is not with this consumer (any more): another member of the group has it, or nobody yet.
    #[error("{partition} is not assigned to this consumer")]
    NotAssigned {
        /// The partition.
        partition: TopicPartition,
    },
    /// There is no offset below 0.
    #[error("{partition} has no offset {offset}: offsets begin at 0")]
    Offset {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
    },
    /// The place could not be looked up.
    #[error("{partition} stays where it is, its new place cannot be looked up: {error}")]
    LookUp {
        /// The partition.
        partition: TopicPartition,
        /// Why not.
        #[source]
        error: Box<ConsumeError>,
    },
    /// The consumer stops, or has stopped.
    #[error("the consumer has stopped")]
    Stopped,
}
