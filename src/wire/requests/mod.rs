//! One module for each API: the request and the response as this client sees them, encoded and decoded by version.

pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_topics;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_producers;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::reader::{ReadError, Reader};
use super::writer::put_string;
use super::{Chunks, Request, WireError, guard};
use crate::types::{BrokerId, TopicId};

/// Writes a message of kafka-protocol.
fn encode<R: Request>(version: i16, message: &impl Encodable, out: &mut Chunks) -> Result<(), WireError> {
    message.encode(out.buf(), version).map_err(|error| WireError::encode(R::KEY, version, error.to_string()))
}

/// Reads a message of kafka-protocol, after the guard has walked the bytes: its decoders believe every count.
fn decode<R: Request, M: Decodable>(version: i16, mut body: Bytes) -> Result<M, WireError> {
    guard::check(R::KEY, version, &body).map_err(|error| WireError::decode(R::KEY, version, error))?;
    M::decode(&mut body, version).map_err(|error| WireError::Decode { api: R::KEY, version, reason: error.to_string() })
}

/// A request that `version` cannot express: `feature` needs version `since`.
fn too_old<R: Request>(version: i16, feature: &str, since: i16) -> WireError {
    WireError::encode(R::KEY, version, format!("{feature} needs version {since} of this API"))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A topic's id as kafka-protocol has it: of a type that it does not show.
fn topic_id<R: Request, T: TryFrom<Vec<u8>>>(version: i16, id: TopicId) -> Result<T, WireError> {
    let impossible = |_| WireError::encode(R::KEY, version, "a topic id of other than 16 bytes".to_owned());
    T::try_from(id.0.to_vec()).map_err(impossible)
}

fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

fn owned(text: &StrBytes) -> String {
    text.as_str().to_owned()
}

fn owned_option(text: Option<&StrBytes>) -> Option<String> {
    text.map(owned)
}

fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// Kafka's ports are 32 bits wide and -1 where there is no broker: 0 then, so that connecting fails and not the
/// whole response.
fn port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

/// The last version of Produce and Fetch in which topics go by name; later ones need topic ids (KIP-516).
pub const LAST_VERSION_BY_NAME: i16 = 12;

/// The topic of a Produce or Fetch request: by name, or by id in later versions.
fn put_topic(buf: &mut BytesMut, version: i16, flexible: bool, name: &str, id: TopicId) -> Result<(), &'static str> {
    if version > LAST_VERSION_BY_NAME {
        buf.put_slice(&id.0);
        return Ok(());
    }
    put_string(buf, flexible, name)
}

/// The topic of a Produce or Fetch response: the twin of [`put_topic`].
fn read_topic(reader: &mut Reader<'_>, version: i16, flexible: bool) -> Result<(Arc<str>, TopicId), ReadError> {
    if version > LAST_VERSION_BY_NAME {
        return Ok((Arc::default(), reader.topic_id()?));
    }
    Ok((Arc::from(reader.string(flexible)?), TopicId::NONE))
}

/// The tagged field that names a partition's new leader and its epoch (KIP-951).
fn read_current_leader(field: &mut Reader<'_>) -> Result<Option<(BrokerId, i32)>, ReadError> {
    let (leader, epoch) = (field.i32()?, field.i32()?);
    field.skip_tags()?;
    Ok((leader >= 0).then_some((leader, epoch)))
}

/// The tagged field that tells where the new leaders listen (KIP-951).
fn read_node_endpoints(field: &mut Reader<'_>) -> Result<Vec<(BrokerId, String, u16)>, ReadError> {
    let count = field.count(true, 11)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        let node = (field.i32()?, field.string(true)?.to_owned(), port(field.i32()?));
        field.nullable_string(true)?; // its rack
        field.skip_tags()?;
        nodes.push(node);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests;
