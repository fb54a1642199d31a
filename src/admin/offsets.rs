//! Where logs begin and end, and which offset a time stands at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Admin, Work};
use crate::error::{AdminError, CallError, CallErrorKind, ConsumeError};
use crate::io::offsets::{self, SeekTo};
use crate::types::{IsolationLevel, TopicPartition};
use crate::wire::{ApiKey, ErrorCode};

/// A place in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first record there is.
    Beginning,
    /// Behind the last record, those of open transactions included.
    End,
    /// The first record with this timestamp or a later one, in milliseconds since 1970; the end where there is none.
    Timestamp(i64),
}

impl Admin {
    /// The offsets of a place in each of these partitions, from their leaders.
    ///
    /// # Errors
    /// [`AdminError::Metadata`] for a topic that does not exist, [`AdminError::Refused`] for a partition that does not and
    /// when DESCRIBE on a topic is not allowed, [`AdminError::Call`] when not all leaders answered within
    /// `default.api.timeout.ms`.
    pub async fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        of: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, AdminError> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        self.run(move |work| async move {
            work.check_partitions(partitions.iter()).await?;
            let place = match of {
                OffsetSpec::Beginning => SeekTo::Beginning,
                OffsetSpec::End => SeekTo::End,
                OffsetSpec::Timestamp(millis) => SeekTo::Timestamp(millis),
            };
            Ok(work.look_up(&partitions, place).await?.into_iter().collect())
        })
        .await
    }
}

impl Work {
    async fn look_up(
        &self,
        partitions: &[TopicPartition],
        place: SeekTo,
    ) -> Result<HashMap<TopicPartition, i64>, AdminError> {
        let list = offsets::look_up(&self.cluster, partitions, place, IsolationLevel::ReadUncommitted);
        let timed_out = |_| {
            let error = CallError::new(CallErrorKind::TimedOut(self.limit()));
            AdminError::Call(error.during(ApiKey::ListOffsets, None))
        };
        let found = tokio::time::timeout_at(self.deadline.into(), list).await.map_err(timed_out)?;
        found.map_err(|error| match error {
            ConsumeError::Fetch { partition, code } => refused(&partition, code),
            ConsumeError::Call(error) => AdminError::Call(error),
            ConsumeError::Metadata(error) => AdminError::Metadata(error),
            // A look-up brings no other.
            _ => AdminError::Call(CallError::new(CallErrorKind::Closed)),
        })
    }

    /// That there are such partitions: to the leaders' answers a topic that is missing may be one that is new.
    pub(super) async fn check_partitions(
        &self,
        partitions: impl Iterator<Item = &TopicPartition>,
    ) -> Result<(), AdminError> {
        let partitions: Vec<&TopicPartition> = partitions.collect();
        let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|partition| &partition.topic).collect();
        let mut counts = BTreeMap::new();
        for topic in topics {
            counts.insert(topic, self.cluster.look_up(topic, self.left()).await?.partitions.len());
        }
        let is_there = |partition: &TopicPartition| {
            let count = counts.get(&partition.topic).copied().unwrap_or_default();
            usize::try_from(partition.partition).is_ok_and(|index| index < count)
        };
        match partitions.into_iter().find(|partition| !is_there(partition)) {
            Some(partition) => Err(refused(partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            None => Ok(()),
        }
    }
}

fn refused(partition: &TopicPartition, code: ErrorCode) -> AdminError {
    AdminError::Refused { operation: "look-up of offsets", what: format!("partition {partition}"), code, message: None }
}
