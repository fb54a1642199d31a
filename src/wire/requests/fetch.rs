//! Fetch (key 1), versions 4 to 18 (by topic id from 13; sessions KIP-227 from 7). Encoded and decoded by hand: it is
//! the hot path, and records come out as slices of the response.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{BrokerId, IsolationLevel, TopicId};
use crate::wire::reader::{ReadError, Reader, share};
use crate::wire::writer::{put_len, put_no_tags, put_string};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks one broker for records.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes to wait for.
    pub min_bytes: i32,
    /// How many bytes to answer with at most; a first batch that is larger comes all the same (KIP-74).
    pub max_bytes: i32,
    /// Whether to see records of open and aborted transactions.
    pub isolation: IsolationLevel,
    /// The fetch session (version 7, KIP-227; left out before); 0 for none.
    pub session_id: i32,
    /// The session's epoch; 0 starts one, -1 goes without.
    pub session_epoch: i32,
    /// The partitions; in a session only those that changed.
    pub topics: Vec<FetchTopic>,
    /// Partitions to take out of the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// The client's rack, to be sent to a near replica (version 11, KIP-392; left out before).
    pub rack: Arc<str>,
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopic {
    /// Its name: written up to version 12.
    pub name: Arc<str>,
    /// Its id: written from version 13.
    pub id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// Where to read one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which partition.
    pub partition: i32,
    /// The leader epoch the client knows, -1 for none: an older one is refused (version 9; left out before).
    pub leader_epoch: i32,
    /// From which offset on.
    pub offset: i64,
    /// The leader epoch of the last record read, -1 for none: finds what an unclean election cut off (version 12; left
    /// out before).
    pub last_fetched_epoch: i32,
    /// How many bytes at most.
    pub max_bytes: i32,
}

/// Partitions of one topic to take out of the session.
#[derive(Clone, Debug, PartialEq)]
pub struct ForgottenTopic {
    /// Its name: written up to version 12.
    pub name: Arc<str>,
    /// Its id: written from version 13.
    pub id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// Its size, which is what any of its records keeps in memory.
    pub bytes: usize,
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// The session's error (version 7).
    pub error: ErrorCode,
    /// The session; 0 for none.
    pub session_id: i32,
    /// By topic; in a session only those with news.
    pub topics: Vec<FetchTopicResponse>,
    /// Where the new leaders listen: id, host, port (version 16, KIP-951).
    pub node_endpoints: Vec<(BrokerId, String, u16)>,
}

/// The records of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopicResponse {
    /// The topic's name; empty from version 13.
    pub name: Arc<str>,
    /// The topic's id; [`TopicId::NONE`] before version 13.
    pub id: TopicId,
    /// By partition.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// The records of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartitionResponse {
    /// Which partition.
    pub partition: i32,
    /// Why there are none.
    pub error: ErrorCode,
    /// The end of what is replicated.
    pub high_watermark: i64,
    /// The end of what is decided; -1 for unknown.
    pub last_stable_offset: i64,
    /// The start of the log (version 5); -1 for unknown.
    pub log_start_offset: i64,
    /// Epoch and end offset beyond which what the client has read was cut off (version 12).
    pub diverging: Option<(i32, i64)>,
    /// The new leader and its epoch (version 12).
    pub current_leader: Option<(BrokerId, i32)>,
    /// Aborted transactions among the records: producer id and first offset.
    pub aborted: Vec<(i64, i64)>,
    /// The replica to read from instead (version 11); -1 for none.
    pub preferred_replica: BrokerId,
    /// Batches, the last of them perhaps cut short. A slice of the response: it keeps all of it in memory.
    pub records: Bytes,
}

impl Request for FetchRequest {
    type Response = FetchResponse;
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: (i16, i16) = (4, 18);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let ids = || self.topics.iter().map(|topic| topic.id).chain(self.forgotten.iter().map(|topic| topic.id));
        if version >= 13 && ids().any(|id| !id.is_some()) {
            return Err(WireError::encode(Self::KEY, version, "from version 13 on, topics go by id: one has none"));
        }
        if version < 7 && !self.forgotten.is_empty() {
            return Err(super::too_old::<Self>(version, "a fetch session", 7));
        }
        self.write(version, out.buf()).map_err(|reason| WireError::encode(Self::KEY, version, reason))
    }

    fn decode(version: i16, body: Bytes) -> Result<FetchResponse, WireError> {
        read(version, &body).map_err(|error| WireError::decode(Self::KEY, version, error))
    }
}

impl FetchRequest {
    fn write(&self, version: i16, buf: &mut BytesMut) -> Result<(), &'static str> {
        let flexible = Self::KEY.is_flexible(version);
        if version < 15 {
            buf.put_i32(-1); // replica id: a consumer; later a tagged field with that default
        }
        buf.put_i32(self.max_wait_ms);
        buf.put_i32(self.min_bytes);
        buf.put_i32(self.max_bytes);
        buf.put_i8(match self.isolation {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        });
        if version >= 7 {
            buf.put_i32(self.session_id);
            buf.put_i32(self.session_epoch);
        }
        put_len(buf, flexible, self.topics.len())?;
        for topic in &self.topics {
            super::put_topic(buf, version, flexible, &topic.name, topic.id)?;
            put_len(buf, flexible, topic.partitions.len())?;
            for partition in &topic.partitions {
                partition.write(version, flexible, buf);
            }
            put_no_tags(buf, flexible);
        }
        if version >= 7 {
            put_len(buf, flexible, self.forgotten.len())?;
            for topic in &self.forgotten {
                super::put_topic(buf, version, flexible, &topic.name, topic.id)?;
                put_len(buf, flexible, topic.partitions.len())?;
                for partition in &topic.partitions {
                    buf.put_i32(*partition);
                }
                put_no_tags(buf, flexible);
            }
        }
        if version >= 11 {
            put_string(buf, flexible, &self.rack)?;
        }
        put_no_tags(buf, flexible);
        Ok(())
    }
}

impl FetchPartition {
    fn write(&self, version: i16, flexible: bool, buf: &mut BytesMut) {
        buf.put_i32(self.partition);
        if version >= 9 {
            buf.put_i32(self.leader_epoch);
        }
        buf.put_i64(self.offset);
        if version >= 12 {
            buf.put_i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            buf.put_i64(-1); // log start offset: only followers have one
        }
        buf.put_i32(self.max_bytes);
        // The tagged fields of versions 17 and 18 are for followers; left out they have their defaults.
        put_no_tags(buf, flexible);
    }
}

fn read(version: i16, body: &Bytes) -> Result<FetchResponse, ReadError> {
    let flexible = FetchRequest::KEY.is_flexible(version);
    let mut reader = Reader::new(body);
    let throttle_ms = reader.i32()?;
    let (error, session_id) =
        if version >= 7 { (ErrorCode(reader.i16()?), reader.i32()?) } else { (ErrorCode::NONE, 0) };
    let count = reader.count(flexible, 3)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, id) = super::read_topic(&mut reader, version, flexible)?;
        let count = reader.count(flexible, 24)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(read_partition(version, flexible, body, &mut reader)?);
        }
        if flexible {
            reader.skip_tags()?;
        }
        topics.push(FetchTopicResponse { name, id, partitions });
    }
    let mut node_endpoints = Vec::new();
    if flexible {
        reader.tags(|tag, field| {
            let known = tag == 0 && version >= 16;
            if known {
                node_endpoints = super::read_node_endpoints(field)?;
            }
            Ok(known)
        })?;
    }
    reader.finish()?;
    Ok(FetchResponse { bytes: body.len(), throttle_ms, error, session_id, topics, node_endpoints })
}

fn read_partition(
    version: i16,
    flexible: bool,
    body: &Bytes,
    reader: &mut Reader<'_>,
) -> Result<FetchPartitionResponse, ReadError> {
    let mut partition = FetchPartitionResponse {
        partition: reader.i32()?,
        error: ErrorCode(reader.i16()?),
        high_watermark: reader.i64()?,
        last_stable_offset: reader.i64()?,
        log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
        diverging: None,
        current_leader: None,
        aborted: Vec::new(),
        preferred_replica: -1,
        records: Bytes::new(),
    };
    let count = reader.nullable_count(flexible, 16)?.unwrap_or(0);
    partition.aborted.reserve_exact(count);
    for _ in 0..count {
        partition.aborted.push((reader.i64()?, reader.i64()?));
        if flexible {
            reader.skip_tags()?;
        }
    }
    if version >= 11 {
        partition.preferred_replica = reader.i32()?;
    }
    partition.records = share(body, reader.nullable_bytes(flexible)?.unwrap_or_default());
    if flexible {
        reader.tags(|tag, field| {
            match tag {
                0 => partition.diverging = read_diverging(field)?,
                1 => partition.current_leader = super::read_current_leader(field)?,
                // Tag 2, the snapshot id, is for the controllers' own log.
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    }
    Ok(partition)
}

fn read_diverging(field: &mut Reader<'_>) -> Result<Option<(i32, i64)>, ReadError> {
    let (epoch, end_offset) = (field.i32()?, field.i64()?);
    field.skip_tags()?;
    Ok((epoch >= 0 && end_offset >= 0).then_some((epoch, end_offset)))
}
