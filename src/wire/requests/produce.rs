//! Produce (key 0), versions 3 to 13 (v2 record batches only; by topic id from 13). Encoded and decoded by hand: it is
//! the hot path, and batches go out as they are, uncopied.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::types::{Acks, BrokerId, TopicId};
use crate::wire::reader::{ReadError, Reader};
use crate::wire::writer::{put_len, put_no_tags};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Batches for partitions that one broker leads.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceRequest {
    /// Whose acknowledgement to wait for. With [`Acks::None`] there is no response at all.
    pub acks: Acks,
    /// How long the leader waits for its followers, in milliseconds.
    pub timeout_ms: i32,
    /// By topic.
    pub topics: Vec<ProduceTopic>,
}

/// The batches for one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceTopic {
    /// Its name: written up to version 12.
    pub name: Arc<str>,
    /// Its id: written from version 13.
    pub id: TopicId,
    /// At most one batch for each partition.
    pub partitions: Vec<ProducePartition>,
}

/// The batch for one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducePartition {
    /// Which partition.
    pub partition: i32,
    /// One whole v2 batch in parts: the header (61 bytes) and the frozen records section.
    pub batch: [Bytes; 2],
}

/// What became of each batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// By topic.
    pub topics: Vec<ProduceTopicResponse>,
    /// Where the new leaders listen: id, host, port (version 10, KIP-951).
    pub node_endpoints: Vec<(BrokerId, String, u16)>,
}

/// What became of the batches of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceTopicResponse {
    /// The topic's name; empty from version 13.
    pub name: Arc<str>,
    /// The topic's id; [`TopicId::NONE`] before version 13.
    pub id: TopicId,
    /// By partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducePartitionResponse {
    /// Which partition.
    pub partition: i32,
    /// Why it was not written, or not as asked.
    pub error: ErrorCode,
    /// The offset of its first record; -1 for unknown.
    pub base_offset: i64,
    /// The timestamp the broker gave all records, in milliseconds; -1 when they keep theirs.
    pub log_append_time: i64,
    /// The start of the log (version 5); -1 for unknown.
    pub log_start_offset: i64,
    /// Records that caused the error: index in the batch and the broker's words (version 8).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// The broker's words about the error (version 8).
    pub error_message: Option<String>,
    /// The new leader and its epoch (version 10, KIP-951).
    pub current_leader: Option<(BrokerId, i32)>,
}

impl ProducePartitionResponse {
    /// What stands for the answer that acks=0 does not get: written to the socket, no offset known.
    pub fn unanswered() -> ProducePartitionResponse {
        ProducePartitionResponse {
            partition: -1,
            error: ErrorCode::NONE,
            base_offset: -1,
            log_append_time: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

impl Request for ProduceRequest {
    type Response = ProduceResponse;
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: (i16, i16) = (3, 13);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version >= 13 && self.topics.iter().any(|topic| !topic.id.is_some()) {
            return Err(WireError::encode(Self::KEY, version, "from version 13 on, topics go by id: one has none"));
        }
        self.write(version, out).map_err(|reason| WireError::encode(Self::KEY, version, reason))
    }

    fn decode(version: i16, body: Bytes) -> Result<ProduceResponse, WireError> {
        read(version, &mut Reader::new(&body)).map_err(|error| WireError::decode(Self::KEY, version, error))
    }
}

impl ProduceRequest {
    fn write(&self, version: i16, out: &mut Chunks) -> Result<(), &'static str> {
        let flexible = Self::KEY.is_flexible(version);
        let buf = out.buf();
        // No transactional id: null.
        if flexible {
            buf.put_u8(0)
        } else {
            buf.put_i16(-1)
        }
        buf.put_i16(self.acks.code());
        buf.put_i32(self.timeout_ms);
        put_len(buf, flexible, self.topics.len())?;
        for topic in &self.topics {
            let buf = out.buf();
            super::put_topic(buf, version, flexible, &topic.name, topic.id)?;
            put_len(buf, flexible, topic.partitions.len())?;
            for partition in &topic.partitions {
                let buf = out.buf();
                buf.put_i32(partition.partition);
                put_len(buf, flexible, partition.batch.iter().map(Bytes::len).sum())?;
                let [header, records] = &partition.batch;
                // 61 bytes: copying them costs less than one more part in the vectored write.
                buf.put_slice(header);
                if !records.is_empty() {
                    out.push(records.clone());
                }
                put_no_tags(out.buf(), flexible);
            }
            put_no_tags(out.buf(), flexible);
        }
        put_no_tags(out.buf(), flexible);
        Ok(())
    }
}

fn read(version: i16, reader: &mut Reader<'_>) -> Result<ProduceResponse, ReadError> {
    let flexible = ProduceRequest::KEY.is_flexible(version);
    let count = reader.count(flexible, 3)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, id) = super::read_topic(reader, version, flexible)?;
        let count = reader.count(flexible, 22)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(read_partition(version, flexible, reader)?);
        }
        if flexible {
            reader.skip_tags()?;
        }
        topics.push(ProduceTopicResponse { name, id, partitions });
    }
    let throttle_ms = reader.i32()?;
    let mut node_endpoints = Vec::new();
    if flexible {
        reader.tags(|tag, field| {
            let known = tag == 0 && version >= 10;
            if known {
                node_endpoints = super::read_node_endpoints(field)?;
            }
            Ok(known)
        })?;
    }
    reader.finish()?;
    Ok(ProduceResponse { throttle_ms, topics, node_endpoints })
}

fn read_partition(
    version: i16,
    flexible: bool,
    reader: &mut Reader<'_>,
) -> Result<ProducePartitionResponse, ReadError> {
    let mut partition = ProducePartitionResponse {
        partition: reader.i32()?,
        error: ErrorCode(reader.i16()?),
        base_offset: reader.i64()?,
        log_append_time: reader.i64()?,
        log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    if version >= 8 {
        let count = reader.count(flexible, 6)?;
        partition.record_errors.reserve_exact(count);
        for _ in 0..count {
            let index = reader.i32()?;
            let message = reader.nullable_string(flexible)?.map(str::to_owned);
            if flexible {
                reader.skip_tags()?;
            }
            partition.record_errors.push((index, message));
        }
        partition.error_message = reader.nullable_string(flexible)?.map(str::to_owned);
    }
    if flexible {
        reader.tags(|tag, field| {
            let known = tag == 0 && version >= 10;
            if known {
                partition.current_leader = super::read_current_leader(field)?;
            }
            Ok(known)
        })?;
    }
    Ok(partition)
}
